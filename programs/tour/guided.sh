#!/bin/sh
# Process 1 of `cargo xtask run`: the policy, the tour's script, and a moment for the host to look at this
# machine from outside. `== ` starts a heading; after `@look` the host looks and then types a line.

export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys

echo "== the policy"
echo "kernel:        $(uname -sr)"
echo "command line:  $(cat /proc/cmdline)"
echo "meltdown:      $(cat /sys/devices/system/cpu/vulnerabilities/meltdown)"

sh /tour.sh

if [ -r /proc/ringwall ]; then
  echo "== what the CPUs have counted by now"
  grep -v '^isolation\|^meltdown\|^nmi' /proc/ringwall
  grep '^nmi' /proc/ringwall | grep -v ':\( 0\)*$' || echo "no NMI came"
fi

echo "== what user mode can see of the kernel, read from outside"
(while :; do :; done) &
spinner=$!
echo "@look"
read -r line
kill $spinner

poweroff -f
