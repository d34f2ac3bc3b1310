# What a host has, as lines NAME=VALUE; changes nothing. Run as root, with these before it:
#   sums     `sha256sum` of the package's files, but for the config and what is only to be read
#   traces   every file and folder of a package
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

fact() {
    printf '%s=%s\n' "$1" "$(printf %s "$2" | tr '\n' ' ')"
}

free() {
    df -Pk "$1" | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4
}

folder=/var/lib/sipguard-deploy
config=/etc/sipguard/sipguard.toml
sipguard=/usr/bin/sipguard

# Asked first: where none is at work, what comes below changes no more.
if [ -e $folder/armed ]; then
    # Whoever watches over a deployment holds this.
    if flock --nonblock $folder/watcher true; then
        fact deployment abandoned
    else
        fact deployment underway
    fi
fi
fact machine "$(uname -m)"
fact kernel "$(uname -r)"
fact bpffs "$(grep -cw bpf /proc/filesystems)"
fact free_var "$(free /var/lib)"
fact free_usr "$(free /usr)"
if command -v dpkg > /dev/null; then
    fact dpkg "$(dpkg --print-architecture)"
    known='${db:Status-Want} ${db:Status-Eflag} ${db:Status-Status} ${Version}'
    fact package "$(dpkg-query --show --showformat="$known" sipguard 2> /dev/null)"
    fact fetcher "$(dpkg-query --show --showformat="$known" sipguard-fetch 2> /dev/null)"
fi
for file in $traces; do
    if [ -e "$file" ] || [ -L "$file" ]; then fact trace "$file"; fi
done
if grep -q '^sipguard-fetch:' /etc/passwd; then fact trace "the user sipguard-fetch"; fi
if printf '%s\n' "$sums" | sha256sum -c > /dev/null 2>&1; then
    fact files same
fi
if [ -e $config ]; then
    fact config "$(sha256sum < $config | cut -d ' ' -f 1)"
fi
for interface in $(ip -oneline -details link show 2> /dev/null | sed -n 's/^[0-9]*: \([^:@]*\)[:@].*prog\/xdp id \([0-9]*\).*/\1:\2/p'); do
    fact xdp "$interface"
done
if [ -x $sipguard ]; then
    fact version "$($sipguard --version 2>&1)"
    fact status "$($sipguard status --json 2>&1)"
    if [ -e $config ]; then
        # With --confirm it is about the config file, even where that was taken back.
        fact planned "$($sipguard apply --dry-run --confirm 60s --json 2> /dev/null)"
    fi
fi
if [ -e /sys/fs/bpf/sipguard ]; then
    fact pins /sys/fs/bpf/sipguard
fi
fact end .
