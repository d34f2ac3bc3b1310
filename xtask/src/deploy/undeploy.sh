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
if command -v dpkg > /dev/null && dpkg-query --show sipguard > /dev/null 2>&1; then
    said=$(dpkg --purge --force-remove-reinstreq sipguard 2>&1 < /dev/null) || {
        echo "$said" >&2
        exit 1
    }
else
    if [ -d $systemd ]; then systemctl disable --quiet --now sipguard.service; fi
    rm -rf $traces
    if [ -d $systemd ]; then systemctl daemon-reload; fi
fi
rm -rf /var/lib/sipguard-deploy*
