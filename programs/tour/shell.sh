#!/bin/sh
# Process 1 of `cargo xtask run --shell`: a shell with job control on the serial console. The machine is
# switched off when the shell ends.

export PATH=/bin HOME=/ TERM=linux PS1='ringwall:\w\$ '
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
mount -t devtmpfs devtmpfs /dev 2>/dev/null
echo
echo "$(uname -sr), Meltdown: $(cat /sys/devices/system/cpu/vulnerabilities/meltdown)"
echo "busybox has $(busybox --list | wc -l) commands. exit switches the machine off."
# A session of its own, so that opening the serial port makes it the controlling terminal.
setsid sh -c 'exec sh </dev/ttyS0 >/dev/ttyS0 2>&1'
poweroff -f
