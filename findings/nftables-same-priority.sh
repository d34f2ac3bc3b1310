#!/usr/bin/env bash
# Linux 6.18; nftables 1.0.6 (Debian 1.0.6-2+deb12u2).
#
# Guess: of two base chains on one hook with one priority, a packet meets that first which was made first, as `nft list ruleset` shows them.
#
# Instead: the kernel puts a new one in front of those with the same priority. What the second chain of the listing sets, such as a mark, the
# first one finds.
#
# Seen: the chain that was made first counts 1 packet with the mark that the other one sets.
#   counter packets 1 bytes 84
#
# Needs root, for a network namespace of its own. Gets the package from where apt's own sources say.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for package in nftables libnftables1; do
    apt-get download --quiet=2 "$package=1.0.6-2+deb12u2"
done
for file in ./*.deb; do dpkg -x "$file" root; done
libraries=$(find "$PWD/root/usr/lib" -name 'libnftables.so.1' -printf '%h')

cat > rules <<'RULES'
table ip first {
    chain input {
        type filter hook input priority filter; policy accept;
        icmp type echo-request meta mark 0x7 counter
    }
}
table ip second {
    chain input {
        type filter hook input priority filter; policy accept;
        icmp type echo-request meta mark set 0x7
    }
}
RULES
export LD_LIBRARY_PATH="$libraries"
told=$(unshare --net bash -euc '
    ip link set lo up
    root/usr/sbin/nft -f rules
    ping -c 1 -W 2 127.0.0.1 > /dev/null
    root/usr/sbin/nft list table ip first')
echo "$told"
grep -q 'meta mark 0x00000007 counter packets 1 ' <<< "$told"
