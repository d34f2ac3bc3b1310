# One deployment on one host, run there as root: sh transaction.sh TOKEN STEP
#
# `begin` saves what the host has and starts `watch`, which takes everything back once the deployer has not been heard of for so long. Each
# step begins that time anew when it has ended, and none of them can run beside another. `commit` and `rollback` end the deployment: one
# of them takes the folder away, and with it whatever the others would have done. A step that has lost its connection still comes to its
# end.
set -u
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umask 022
trap '' HUP

token=$1
step=$2
folder=/var/lib/sipguard-deploy
# Where it was copied to; claimed by renaming it to $folder.
copied=$folder.$token
etc=/etc/sipguard
config=$etc/sipguard.toml
# In the same folder, for files that the config names are looked for beside it.
staged=$etc/.sipguard.toml.deploy
installed=/usr/bin/sipguard
state=/var/lib/sipguard
# What asks the network, with a user of its own.
fetcher=sipguard-fetch
fetched=/var/lib/sipguard-fetch
packages="sipguard $fetcher"

main() {
    case $step in
        # What would change; nothing is left of it.
        plan)
            cd "$copied" && . ./plan
            judge
            cd / && rm -rf "$copied"
            ;;
        begin | watch) "$step" ;;
        install | apply)
            alone
            "$step"
            hear
            cat said
            ;;
        commit | rollback)
            alone
            "$step"
            ;;
        # After a restart nobody watches over it any more.
        recover)
            token=$(cat "$folder/token")
            alone
            rollback
            ;;
    esac
}

fail() {
    echo "$*" >&2
    exit 1
}

# Nothing else happens meanwhile, and the deployment is still this one.
alone() {
    cd "$folder" 2> /dev/null && exec 9> lock && flock 9
    [ -e "$folder/armed" ] && [ "$(cat "$folder/token")" = "$token" ] || fail "the host has taken itself back already"
    . ./plan
    : > said
}

# Seconds since boot: nobody sets that clock.
now() {
    cut -d . -f 1 /proc/uptime
}

hear() {
    if [ -e armed ]; then
        echo $(($(now) + patience)) > deadline.new && mv deadline.new deadline
    fi
}

# Runs a command, and keeps what it says.
quietly() {
    "$@" >> said 2>&1 < /dev/null
}

# The last thing that was said, as one line.
reason() {
    sed '/^ *$/d' said | tail -n 1
}

# What the new sipguard makes of the new config.
judge() {
    : > said
    unpack || fail "the package can't be unpacked: $(reason)"
    file=$config
    if [ "$config_is" = new ]; then
        file=$PWD/new/sipguard.toml
        if [ -d "$etc" ]; then
            cp "$file" "$staged" || fail "no room for the config"
            file=$staged
        fi
    fi
    [ -e "$file" ] || return 0
    : > said
    quietly "$(new_sipguard)" --config "$file" apply --dry-run --confirm "${patience}s"
    fits=$?
    rm -f "$staged"
    # By the name that the deployer knows.
    [ "$fits" = 0 ] || fail "$(complaint said | sed "s|$file|$staged|")"
    cat said
}

# What sipguard says is wrong.
complaint() {
    sed -n -e '/^sipguard: warning: /d' -e 's/^sipguard: //p' "$1" | head -n 1 | grep . || tail -n 1 "$1"
}

unpack() {
    case $package in
        deb)
            for name in $packages; do
                quietly dpkg-deb --extract new/$name.deb new/tree || return 1
            done
            ;;
        tar) mkdir new/tree && quietly tar -xzf new/package.tar.gz --strip-components=1 -C new/tree ;;
    esac
}

new_sipguard() {
    if [ "$package" = keep ]; then
        echo "$installed"
    else
        echo "$PWD/new/tree/usr/bin/sipguard"
    fi
}

begin() {
    cd "$copied" && . ./plan
    judge
    # Of deployments that lost their power while they were copied.
    find /var/lib -maxdepth 1 -name 'sipguard-deploy.?*' -mmin +60 -exec rm -rf {} +
    save
    echo "$token" > token
    : > armed
    hear || fail "no room in /var/lib"
    exec 8> watcher && flock 8
    mv -T "$copied" "$folder" 2> /dev/null || fail "another deployment is at work there"
    cd "$folder" || exit 1
    if [ -d /run/systemd/system ]; then
        systemd-run --quiet --collect --unit="sipguard-deploy-$token" /bin/sh "$folder/transaction.sh" "$token" watch
    else
        setsid sh "$folder/transaction.sh" "$token" watch < /dev/null > /dev/null 2>&1 &
    fi
    # Nothing is changed on a host that does not watch over itself.
    tries=0
    until [ -e watching ]; do
        tries=$((tries + 1))
        if [ $tries -gt 100 ]; then
            rm -rf "$folder"
            fail "the host can't start a program that watches over the deployment"
        fi
        sleep 0.1
    done
}

watch() {
    cd "$folder" && . ./plan || exit 1
    : > watching
    # From `begin` on, for as long as this lives: how others tell that it does.
    exec 8> watcher && flock 8
    while mine; do
        if [ "$(cat deadline)" -le "$(now)" ]; then
            exec 9> lock && flock 9
            if mine && [ "$(cat deadline)" -le "$(now)" ]; then
                : > said
                rollback
            fi
            exec 9>&-
        fi
        sleep 1
    done
}

mine() {
    [ -e "$folder/armed" ] && [ "$(cat "$folder/token")" = "$token" ]
}

# Everything that a rollback needs.
save() {
    mkdir old && dd if=/dev/zero of=old/ballast bs=1048576 count=16 2> /dev/null || fail "no room in /var/lib"
    if [ -d "$etc" ]; then : > old/had-etc; fi
    if [ -d "$state" ]; then : > old/had-state; fi
    if has_user; then : > old/had-user; fi
    if [ -e "$config" ]; then
        cp -p "$config" old/sipguard.toml || fail "no room in /var/lib"
    fi
    if [ -x "$installed" ] && "$installed" status --json 2> /dev/null | grep -q '"in_force":true'; then
        : > old/in-force
    fi
    case $package in
        deb) save_deb ;;
        tar) save_tar ;;
    esac || fail "the installed version can't be saved: $(reason)"
}

# The installed packages again as files: dpkg keeps none.
save_deb() {
    dpkg_says > old/dpkg
    for name in $packages; do
        if grep -q "^ii *$name " old/dpkg; then
            save_package || return 1
        fi
    done
}

# The one that is called $name.
save_package() {
    tree=old/tree
    mkdir -p $tree/DEBIAN
    dpkg-query --listfiles $name | while read -r file; do
        if [ -e "$file" ] || [ -L "$file" ]; then echo ".${file%/.}"; fi
    done > old/files
    quietly tar --no-recursion -cf old/files.tar -C / -T "$PWD/old/files" && quietly tar -xf old/files.tar -C $tree || return 1
    # Its conffile becomes the new version's: the administrator's own must stay a changed one to dpkg.
    [ $name = $fetcher ] || cp -p "new/tree$config" "$tree$config" || return 1
    dpkg-query --status $name | sed -e '/^Status:/d' -e '/^Conffiles:/,/^[^ ]/{/^Conffiles:/d;/^ /d}' > $tree/DEBIAN/control
    # Not among the control files that dpkg-query tells of.
    dpkg-query --show --showformat='${Conffiles}\n' $name | sed -n 's/^ \(\/[^ ]*\) .*/\1/p' > $tree/DEBIAN/conffiles
    for file in $(dpkg-query --control-list $name); do
        cp -p "$(dpkg-query --control-path $name "$file")" $tree/DEBIAN/ || return 1
    done
    quietly dpkg-deb -Znone --build $tree old/$name.deb && rm -rf $tree old/files.tar || return 1
    grep '^./usr/' old/files | while read -r file; do
        if [ -f "/$file" ]; then sha256sum "/$file"; fi
    done >> old/sums
}

dpkg_says() {
    dpkg-query --show --showformat='${db:Status-Abbrev} ${Package} ${Version}\n' $packages 2> /dev/null || true
}

has_user() {
    grep -q "^$fetcher:" /etc/passwd
}

# Also where dpkg itself has undone an installation.
dpkg_has_what_it_had() {
    dpkg_says | cmp -s - old/dpkg && { [ ! -e old/sums ] || sha256sum -c old/sums > /dev/null 2>&1; }
}

save_tar() {
    # The config is not part of it.
    (cd new/tree && find ./usr ! -type d) > new/files
    while read -r file; do
        if [ -e "/$file" ]; then echo "$file"; fi
    done < new/files > old/files
    quietly tar -cf old/package.tar -C / -T "$PWD/old/files"
}

install() {
    case $package in
        deb) quietly timeout 300 dpkg --install --force-confold new/sipguard.deb new/$fetcher.deb ;;
        tar) install_tar ;;
    esac || fail "the package can't be installed: $(reason)"
}

install_tar() {
    quietly tar -cf new/files.tar -C new/tree ./usr && quietly tar -xf new/files.tar -C / || return 1
    if [ ! -e "$config" ]; then
        mkdir -p "$etc" && cp new/tree"$config" "$config" || return 1
    fi
    # Before systemd reads the units, which name the group.
    make_user || return 1
    if [ -d /run/systemd/system ]; then
        quietly systemctl daemon-reload && quietly systemctl enable sipguard.service sipguard-agent.service $fetcher.service || return 1
        # What filters does not depend on it.
        quietly systemctl restart $fetcher.service || true
        quietly systemctl restart sipguard-agent.service || true
    fi
}

# As the package does it.
make_user() {
    if ! has_user; then
        if command -v systemd-sysusers > /dev/null; then
            quietly systemd-sysusers $fetcher.conf || return 1
        else
            quietly useradd --system --user-group --no-create-home --home-dir $fetched --shell /usr/sbin/nologin $fetcher || return 1
        fi
    fi
    mkdir -p $fetched && chown $fetcher:$fetcher $fetched && chmod 750 $fetched
}

apply() {
    if [ "$config_is" = new ]; then
        # From here to the apply, some milliseconds, a host that loses its power comes up with the new policy, which it has judged.
        put new/sipguard.toml || fail "the config can't be written: $(reason)"
    fi
    : > said
    if "$installed" apply --dry-run --confirm "${patience}s" --json 2> /dev/null | grep -q '"changed":false'; then
        return
    fi
    "$installed" apply --confirm "${patience}s" --json > said 2> error < /dev/null || fail "$(complaint error)"
    : > waits
}

# Makes a file the config, at once.
put() {
    quietly cp -p "$1" "$staged" && quietly mv "$staged" "$config"
}

commit() {
    # It fails where the time was over: sipguard's begins a little earlier than ours.
    if [ -e waits ]; then
        quietly "$installed" confirm || fail "$(reason)"
    fi
    # What is confirmed and not yet ended is taken back as a whole, too.
    end
}

# What the host had before: the filter first, then the config, then the package.
rollback() {
    rm -f old/ballast
    sipguard=$(new_sipguard)
    # It fails where nothing is pending.
    quietly "$sipguard" rollback
    if [ -e old/sipguard.toml ]; then
        cmp -s old/sipguard.toml "$config" || put old/sipguard.toml
    elif [ "$config_is" = new ]; then
        rm -f "$config" "$staged"
    fi
    tries=0
    # Another package manager may be at work.
    until uninstall; do
        tries=$((tries + 1))
        [ $tries -le 30 ] || break
        sleep 2
    done
    if [ -e old/in-force ]; then
        quietly "$installed" apply
    elif [ -d /sys/fs/bpf/sipguard ]; then
        quietly "$sipguard" down
    fi || fail "the filter is not what it was: $(reason)"
    [ $tries -le 30 ] || fail "the package is not what it was: $(reason)"
    end
}

# The version that was there before.
uninstall() {
    case $package in
        deb) dpkg_has_what_it_had || uninstall_deb ;;
        tar) uninstall_tar ;;
    esac
}

uninstall_deb() {
    # What needs the other one goes first.
    [ -e old/$fetcher.deb ] || quietly dpkg --purge --force-remove-reinstreq $fetcher || return 1
    if [ -e old/sipguard.deb ]; then
        quietly dpkg --install --force-confold old/*.deb
    elif [ -e old/had-etc ] || [ -e old/had-state ]; then
        quietly dpkg --remove --force-remove-reinstreq sipguard
    else
        quietly dpkg --purge --force-remove-reinstreq sipguard
    fi
}

uninstall_tar() {
    if [ ! -e old/had-user ] && [ -d /run/systemd/system ]; then
        quietly systemctl disable --now sipguard-refresh.path $fetcher.service
    fi
    if [ -d /run/systemd/system ] && ! grep -q sipguard-agent.service old/files; then
        quietly systemctl disable --now sipguard-agent.service
    fi
    if [ ! -e old/files ] || ! grep -q bin/sipguard old/files; then
        if [ -d /run/systemd/system ]; then quietly systemctl disable --now sipguard.service; fi
        if [ -d /sys/fs/bpf/sipguard ]; then quietly "$sipguard" down || return 1; fi
    fi
    while read -r file; do
        grep -qxF -- "$file" old/files || rm -f "/$file"
    done < new/files
    quietly tar -xf old/package.tar -C / || return 1
    [ -e old/had-etc ] || rm -rf "$etc"
    [ -e old/had-state ] || rm -rf "$state"
    rmdir /usr/share/sipguard /usr/share/doc/sipguard /usr/share/doc/$fetcher /usr/lib/systemd/system/sipguard*.service.d 2> /dev/null
    if [ -d /run/systemd/system ]; then
        quietly systemctl daemon-reload
        quietly systemctl try-restart $fetcher.service sipguard-agent.service
    fi
    if [ ! -e old/had-user ]; then
        rm -rf $fetched
        if has_user; then quietly userdel $fetcher; fi
        if grep -q "^$fetcher:" /etc/group; then quietly groupdel $fetcher; fi
    fi
    return 0
}

# The deployment is over.
end() {
    over=$folder.over
    rm -rf "$over"
    mv -T "$folder" "$over" || fail "$folder can't be removed"
    # A deployer that is gone does not keep this from its end.
    trap '' PIPE
    cat "$over/said"
    rm -rf "$over"
}

main
exit
