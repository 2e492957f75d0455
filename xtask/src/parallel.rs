//! The same work for many things, on all CPUs.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

/// Does something with each of many things, as many at a time as there are CPUs.
///
/// # Errors
///
/// One of those that the work returns; the things that are left then may not be done.
pub fn each<T: Sync>(things: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some(thing) = things.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(thing)?;
        }
        Ok(())
    };
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no work panics"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;

    #[test]
    fn each_thing_has_its_turn_once_and_an_error_is_told() {
        let counts: Vec<AtomicUsize> = (0..100).map(AtomicUsize::new).collect();
        let add = |count: &AtomicUsize| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        each(&counts, add).expect("no error");
        assert!((0..100).all(|index| counts[index].load(Ordering::Relaxed) == index + 1));

        let refuse = |count: &AtomicUsize| {
            ensure!(count.load(Ordering::Relaxed) != 50, "fifty");
            Ok(())
        };
        assert_eq!(each(&counts, refuse).expect_err("49 + 1").to_string(), "fifty");
    }
}
