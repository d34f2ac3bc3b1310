#!/usr/bin/env bash
# Linux 6.18; nftables 1.0.6 (Debian 1.0.6-2+deb12u2).
#
# Guess: in a table of family inet, `reject with icmp port-unreachable` alone in a line of `nft list ruleset` rejects every packet that gets
# there: nothing in the line asks what it is.
#
# Instead: nft puts "if it is IPv4" in front when it loads the rule, since only IPv4 can be answered so, and leaves that out again when it
# lists it. IPv6 packets go on to the next rule.
#
# Seen: the listing has the one statement; a ping over IPv4 is rejected, one over IPv6 is answered.
#   reject with icmp port-unreachable
#   IPv4: rejected
#   IPv6: answered
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
table inet t {
    chain input {
        type filter hook input priority filter; policy accept;
        reject with icmp port-unreachable
    }
}
RULES
told=$(LD_LIBRARY_PATH="$libraries" unshare --net bash -euc '
    ip link set lo up
    root/usr/sbin/nft -f rules
    root/usr/sbin/nft list ruleset | sed -n "s/^[[:space:]]*\(.*reject.*\)/\1/p"
    asked() { if ping -c 1 -W 2 "$1" > /dev/null 2>&1; then echo answered; else echo rejected; fi; }
    echo "IPv4: $(asked 127.0.0.1)"
    echo "IPv6: $(asked ::1)"')
echo "$told"
[ "$told" = 'reject with icmp port-unreachable
IPv4: rejected
IPv6: answered' ]
