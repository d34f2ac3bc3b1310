# What makes a bare Debian a gateway: runs in its tree.
useradd --shell /bin/bash admin
echo 'admin ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/admin
chmod 700 /home/admin /home/admin/.ssh
chown -R admin:admin /home/admin
chmod 755 /usr/local/bin/listener

echo gateway > /etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 gateway\n' > /etc/hosts
echo '/dev/vda / ext4 noatime 0 0' > /etc/fstab
mkdir -p /var/log/journal

systemctl enable systemd-networkd.service listener.service
# Slow in a machine of software, and nobody asks for them.
systemctl mask getty.target getty-static.service serial-getty@ttyS0.service systemd-networkd-wait-online.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-hwdb-update.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount

# The disk's driver is all that has to be there before the disk.
sed -i 's/^MODULES=.*/MODULES=list/' /etc/initramfs-tools/initramfs.conf
printf 'virtio_pci\nvirtio_blk\n' >> /etc/initramfs-tools/modules
update-initramfs -u
rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/*
