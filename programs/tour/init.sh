#!/bin/sh
# The tour's process 1, under Ringwall and under Linux alike. `## ` starts a heading; after `@look` the
# host looks at this machine from outside and then types a line.

export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
mount -t devtmpfs devtmpfs /dev 2>/dev/null
cd /tmp

echo "## The policy and its reason"
echo "kernel:        $(uname -sr)"
echo "command line:  $(cat /proc/cmdline)"
echo "meltdown:      $(cat /sys/devices/system/cpu/vulnerabilities/meltdown)"

echo "## Programs from Debian, behind isolated page tables"
echo "pipe:     $(seq 1 10000 | grep 7 | sort -rn | head -n 3 | tr '\n' ' ')"
echo "files:    $(seq 1 2000 > numbers; wc -l < numbers) lines, md5 $(md5sum < numbers | cut -c 1-8)"

trap 'echo "signal:   process $$ caught SIGUSR1"' USR1
kill -USR1 $$
trap - USR1
sleep 60 &
kill -TERM $!
wait $! 2>/dev/null
echo "signal:   a child ended with status $?"

count=0
while [ $count -lt 2000 ]; do
    (exit 0)
    count=$((count + 1))
done
echo "fork:     $count processes"
count=0
while [ $count -lt 1000 ]; do
    /bin/true
    count=$((count + 1))
done
echo "exec:     $count programs"

echo "## What user mode can see of the kernel, read from outside"
(while :; do :; done) &
spinner=$!
echo "@look"
read -r line
kill $spinner

poweroff -f
