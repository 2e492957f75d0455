#!/bin/sh
# The tour: a real shell at work. It runs as process 1 (or from a prompt) on any Linux ABI kernel and
# prints the same on each: pipes, fork, exec, signals, files, thousands of processes.

PATH=/bin:/sbin:/usr/bin
export PATH

[ -x /bin/seq ] || [ -x /usr/bin/seq ] || /bin/busybox --install -s /bin

section() { echo; echo "== $*"; }

mount -t proc proc /proc 2>/dev/null
mount -t sysfs sysfs /sys 2>/dev/null
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mount -t tmpfs tmpfs /tmp 2>/dev/null
cd /tmp || exit 1

section "pipes"
seq 1 10000 | grep 7 | sort -rn | head -n 3 | tr '\n' ' '; echo
echo "the quick brown fox" | sed 's/quick/isolated/' | tr a-z A-Z
yes ringwall | head -n 20000 | md5sum | cut -c 1-16

section "files"
mkdir -p tree/a/b tree/c
i=0
while [ $i -lt 50 ]; do echo "file $i" > "tree/a/b/$i"; i=$((i + 1)); done
ln -s a/b tree/link
mv tree/a/b/7 tree/c/seven
echo "$(find tree -type f | wc -l) files, $(cat tree/link/* tree/c/seven | wc -c) bytes, $(cat tree/c/seven)"
rm -r tree
[ -e tree ] || echo "and none left"

section "fork and exec"
n=0 sum=0
while [ $n -lt 500 ]; do sum=$((sum + $(echo $n))); n=$((n + 1)); done
echo "500 substitutions, sum $sum"
n=0
while [ $n -lt 1000 ]; do (exit $((n % 7))); last=$?; n=$((n + 1)); done
echo "1000 subshells, last status $last"
n=0
while [ $n -lt 500 ]; do busybox false; last=$?; n=$((n + 1)); done
echo "500 programs, last status $last"

section "at the same time"
n=0
while [ $n -lt 100 ]; do (echo $n > "job$n") & n=$((n + 1)); done
wait
echo "100 background jobs, sum $(cat job* | awk '{ s += $1 } END { print s }')"
rm -f job*

section "signals"
trap 'echo "caught USR1"' USR1
kill -USR1 $$
trap - USR1
sleep 100 &
kill -TERM $!
wait $! 2>/dev/null # the shell says "Terminated" if the sleeper is not gone yet
echo "a sleeper ended with status $?"
sh -c 'kill -SEGV $$' 2>/dev/null
echo "a crash ended with status $?"
(trap 'exit 3' TERM; kill -TERM "$(sh -c 'echo $PPID')"; sleep 1)
echo "a handler ended with status $?"

section "who is where"
echo "process $$ is $(sed -n 's/^Name:[^a-z]*//p' /proc/$$/status), $(sed -n 's/^Threads:[^0-9]*//p' /proc/$$/status) thread"
echo "$(grep -c '^processor' /proc/cpuinfo) processor, $(uname -m)"

[ $$ = 1 ] && poweroff -f
exit 0
