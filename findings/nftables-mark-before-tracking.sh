#!/usr/bin/env bash
# Linux 6.18; nftables 1.0.6 (Debian 1.0.6-2+deb12u2).
#
# Guess: a mark that a rule in prerouting puts on a packet's connection is there for the rules in input, whatever the priority of the first
# one. (It is what `CONNMARK --set-mark` in iptables' raw table looks like, too.)
#
# Instead: at a priority before connection tracking's (-200) the packet has no connection yet. The rule matches, its counter counts, the mark
# goes nowhere, and nobody is told. At a priority behind -200 the same rule does what it says.
#
# Seen: the rule at priority raw counts 1 packet, and input finds no mark; the one at priority mangle counts 1, and input finds it.
#   raw: 1 packets set the mark, 0 have it
#   mangle: 1 packets set the mark, 1 have it
#
# Needs root, for network namespaces of its own. Gets the package from where apt's own sources say.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for package in nftables libnftables1; do
    apt-get download --quiet=2 "$package=1.0.6-2+deb12u2"
done
for file in ./*.deb; do dpkg -x "$file" root; done
libraries=$(find "$PWD/root/usr/lib" -name 'libnftables.so.1' -printf '%h')

# Over loopback the packet would come in with the connection that it went out with.
told=$(LD_LIBRARY_PATH="$libraries" unshare --net bash -euc '
    unshare --net sleep 20 &
    outside=$!
    trap "kill $outside" EXIT
    here=$(readlink /proc/self/ns/net)
    until [ "$(readlink /proc/$outside/ns/net)" != "$here" ]; do sleep 0.1; done
    ip link add cable type veth peer name cable netns $outside
    ip address add 192.0.2.1/24 dev cable
    ip link set cable up
    nsenter --target $outside --net ip address add 192.0.2.2/24 dev cable
    nsenter --target $outside --net ip link set cable up
    for priority in raw mangle; do
        root/usr/sbin/nft -f - <<RULES
table ip t {
    counter marked { }
    counter found { }
    chain early {
        type filter hook prerouting priority $priority; policy accept;
        icmp type echo-request ct mark set 0x1 counter name marked
    }
    chain late {
        type filter hook input priority filter; policy accept;
        icmp type echo-request ct mark 0x1 counter name found
    }
}
RULES
        nsenter --target $outside --net ping -c 1 -W 5 192.0.2.1 > /dev/null
        packets() { root/usr/sbin/nft list counter ip t "$1" | sed -n "s/.*packets \([0-9]*\) .*/\1/p"; }
        echo "$priority: $(packets marked) packets set the mark, $(packets found) have it"
        root/usr/sbin/nft delete table ip t
    done')
echo "$told"
[ "$told" = 'raw: 1 packets set the mark, 0 have it
mangle: 1 packets set the mark, 1 have it' ]
