#!/usr/bin/env bash
# svcrack of SIPVicious 0.3.3 (Debian 0.3.3-2).
#
# Guess: each password that it tries is a registration of its own, or at least a new turn of one, so that whoever counts what arrives can tell the
# tries apart by Call-ID or by the number in CSeq (RFC 3261, section 10.2: each REGISTER of one Call-ID has a higher number).
#
# Instead: all tries have one Call-ID and the CSeq "2 REGISTER". To whoever goes by these it is one request that is sent again and again, as by
# a phone that gets no answer. Only the digest differs, and where a filter lets nobody answer there is none yet. So a guesser is known by how often he
# comes.
#
# Seen:
#   with a digest: 10 or more, all of them different
#   Call-IDs: 1
#   CSeq: 2 REGISTER
#
# Needs python3, unshare, ip, root for a network namespace, and apt, which gets the package from where its own sources say. Asks nobody but 127.0.0.1
# in there.
set -euo pipefail

folder=$(mktemp -d)
cd "$folder"
trap 'rm -rf "$folder"' EXIT
apt-get download --quiet=2 sipvicious=0.3.3-2
dpkg -x ./*.deb root

cat > registrar.py <<'PYTHON'
import re
import socket

registrar = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
registrar.bind(("127.0.0.1", 5060))
registrar.settimeout(8)
open("ready", "w").close()
tries = []
try:
    while True:
        request, sender = registrar.recvfrom(4096)
        request = request.decode()
        fields = {name: re.search(rf"(?im)^{name}: *(.*?)\r$", request).group(1) for name in ("Via", "From", "To", "Call-ID", "CSeq")}
        digest = re.search(r'response="(\w+)"', request)
        if digest:
            tries.append((digest.group(1), fields["Call-ID"], fields["CSeq"]))
        same = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        challenge = 'WWW-Authenticate: Digest realm="pbx", nonce="1", algorithm=MD5\r\n'
        registrar.sendto(f"SIP/2.0 401 Unauthorized\r\n{same}{challenge}Content-Length: 0\r\n\r\n".encode(), sender)
except TimeoutError:
    pass
digests, calls, numbers = (set(column) for column in zip(*tries))
print("with a digest:", "10 or more," if len(tries) >= 10 else len(tries), "all of them different" if len(digests) == len(tries) else "some alike")
print("Call-IDs:", len(calls))
print("CSeq:", ", ".join(sorted(numbers)))
PYTHON

cat > inside.sh <<'SHELL'
ip link set lo up
python3 registrar.py &
for _ in $(seq 100); do [ ! -e ready ] || break; sleep 0.1; done
HOME=$PWD PYTHONPATH=$PWD/root/usr/share/sipvicious timeout 30 python3 -m sipvicious.svcrack -u 100 -r 1000-1010 127.0.0.1 > said 2>&1 || true
wait
SHELL
unshare --net bash inside.sh | tee seen
diff - seen <<'SEEN'
with a digest: 10 or more, all of them different
Call-IDs: 1
CSeq: 2 REGISTER
SEEN
