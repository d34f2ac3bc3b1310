#!/usr/bin/env bash
# nftables 1.0.6 (Debian 1.0.6-2+deb12u2), on Linux 6.18.
#
# Guess: `udp sport != 22 udp dport != 5061 drop` drops what comes from another port than 22 and goes to another port than 5061, for conditions
# of one rule must all hold.
#
# Instead: the two fields stand beside each other in the header, so nft loads both at once and compares them with one value of four bytes.
# "Differs from that" holds where either field differs, so a packet from port 40000 to 5061 is dropped, too. `nft list ruleset` still shows the
# two conditions. A counter between them changes nothing; sets of several (`!= { 22, 23 }`) are compared one by one.
#
# Seen:
#   [ payload load 4b @ transport header + 0 => reg 1 ]
#   [ cmp neq reg 1 0xc5131600 ]
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
table ip t {
    chain beside {
        udp sport != 22 udp dport != 5061 drop
    }
    chain counted {
        udp sport != 22 counter udp dport != 5061 drop
    }
    chain sets {
        udp sport != { 22, 23 } udp dport != { 5061, 5062 } drop
    }
}
RULES
made=$(LD_LIBRARY_PATH="$libraries" unshare --net root/usr/sbin/nft --debug=netlink -f rules)
echo "$made"
[ "$(grep -c 'payload load 4b @ transport header + 0' <<< "$made")" = 2 ]
[ "$(grep -c 'payload load 2b @ transport header' <<< "$made")" = 2 ]
