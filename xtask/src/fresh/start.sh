# The first process of the new machine, in namespaces of its own: mounts what a machine has, and does what README says.
root=$1 toolchain=$2 name=$3 task=$4
shift 4

mount --bind "$root" "$root"
cd "$root"
mkdir -p "root/.rustup/toolchains/$name"
mount --bind -o ro "$toolchain" "root/.rustup/toolchains/$name"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
pivot_root . mnt
hostname "$(cat etc/hostname)"
exec chroot . /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM=dumb PATH=/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "$@" /bin/sh -ec "umount --lazy /mnt; rustup default $name; cd /root/sipguard; cargo xtask $task"
