# Takes everything of sipguard's off a host. Run as root, with this before it:
#   traces   every file and folder of a package
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
trap '' HUP

systemd=/run/systemd/system

# As the package does it; where that is damaged, it can't.
if [ -d /sys/fs/bpf/sipguard ] && [ -x /usr/bin/sipguard ]; then
    if [ -d $systemd ]; then systemctl stop sipguard.service; fi
    /usr/bin/sipguard down > /dev/null || exit 1
fi
packages=
if command -v dpkg > /dev/null; then
    packages=$(dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' sipguard-fetch sipguard 2> /dev/null |
        sed -n '/^not-installed /!s/.* //p')
fi
if [ -n "$packages" ]; then
    said=$(dpkg --purge --force-remove-reinstreq $packages 2>&1 < /dev/null) || {
        echo "$said" >&2
        exit 1
    }
else
    # Earlier versions had none.
    if [ -d $systemd ]; then systemctl disable --quiet --now sipguard-agent.service 2> /dev/null; fi
    if [ -d $systemd ]; then systemctl disable --quiet --now sipguard-refresh.path sipguard-fetch.service sipguard.service; fi
    rm -rf $traces
    if grep -q '^sipguard-fetch:' /etc/passwd; then userdel sipguard-fetch; fi
    if grep -q '^sipguard-fetch:' /etc/group; then groupdel sipguard-fetch; fi
    if [ -d $systemd ]; then systemctl daemon-reload; fi
fi
rm -rf /var/lib/sipguard-deploy*
