//! Many processes, and many at once.

use std::time::Duration;

use ringwall_tests::Boot;

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn forks_one_after_the_other() {
    let boot = Boot::new().limit(LIMIT);
    let script =
        "n=0; while [ $n -lt 3000 ]; do (exit 0) || echo bad; n=$((n+1)); done; echo $n done";
    boot.script(script).run().powered_off().says("3000 done\n").never_says("bad");
}

#[test]
fn programs_one_after_the_other() {
    let boot = Boot::new().limit(LIMIT);
    let script =
        "n=0; while [ $n -lt 1000 ]; do /bin/true || echo bad; n=$((n+1)); done; echo $n done";
    boot.script(script).run().powered_off().says("1000 done\n").never_says("bad");
}

#[test]
fn many_at_once() {
    let boot = Boot::new().limit(LIMIT);
    // Without /dev/null the shell starts nothing in the background.
    let script = "mount -t devtmpfs devtmpfs /dev\nmkdir /tmp/all\n\
                  for i in $(seq 1 300); do (cat /proc/cmdline >/tmp/all/$i; exit 0) & done; wait\n\
                  echo all $(ls /tmp/all | wc -l)";
    boot.script(script).run().powered_off().says("all 300\n");
}

#[test]
fn long_pipelines() {
    let boot = Boot::new().limit(LIMIT);
    let pipeline = "seq 1 20000 | cat | cat | cat | cat | cat | cat | cat | cat | tail -n 1";
    boot.script(pipeline).run().powered_off().says("20000\n");
}
