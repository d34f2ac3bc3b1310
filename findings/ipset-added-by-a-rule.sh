#!/usr/bin/env bash
# Linux 6.18; ipset 7.17 and iptables 1.8.9 (Debian 12).
#
# Guess: `-j SET --add-set NAME src` adds the packet's source address to a set of kind hash:net, as `ipset add NAME ADDRESS` does.
#
# Instead: it adds the network around that address, as long as the longest prefix that the set has. One packet from 127.0.0.1 puts
# 127.0.0.0/25 into a set whose one entry is a /25, and so everybody near it.
#
# Seen:
#   add bans 203.0.113.128/25
#   add bans 127.0.0.0/25
#
# Needs root, for a network namespace of its own. Gets the packages from where apt's own sources say.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download --quiet=2 ipset=7.17-1 libipset13=7.17-1 iptables=1.8.9-2 libxtables12=1.8.9-2
for file in ./*.deb; do dpkg -x "$file" root; done
LD_LIBRARY_PATH=$(find "$PWD/root/usr/lib" -name 'lib*.so.1*' -printf '%h\n' | sort -u | paste -s -d:)
XTABLES_LIBDIR=$(find "$PWD/root/usr/lib" -type d -name xtables)
export LD_LIBRARY_PATH XTABLES_LIBDIR

told=$(unshare --net bash -euc '
    ip link set lo up
    root/usr/sbin/ipset create bans hash:net
    root/usr/sbin/ipset add bans 203.0.113.128/25
    root/usr/sbin/iptables-nft -A INPUT -p icmp -j SET --add-set bans src
    ping -c 1 -W 2 127.0.0.1 > /dev/null
    root/usr/sbin/ipset save bans')
echo "$told"
grep -q '^add bans 127.0.0.0/25' <<< "$told"
