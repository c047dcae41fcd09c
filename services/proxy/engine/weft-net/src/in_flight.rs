//! The limit of concurrent requests on one side: what comes beyond is shed at once (wire.md 7.2).

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use weft_core::failure::Failure;

pub struct InFlight {
    limit: usize,
    now: AtomicUsize,
}

/// One request that counts until this is dropped.
pub struct Admitted<'a>(&'a AtomicUsize);

impl InFlight {
    pub fn new(limit: usize) -> Self {
        Self { limit, now: AtomicUsize::new(0) }
    }

    pub fn admit(&self) -> Result<Admitted<'_>, Failure> {
        let admitted = Admitted(&self.now);
        if self.now.fetch_add(1, Relaxed) >= self.limit { Err(Failure::LoadShed) } else { Ok(admitted) }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shed_takes_no_place() {
        let requests = InFlight::new(1);
        let first = requests.admit();
        assert!(first.is_ok());
        assert!(requests.admit().is_err() && requests.admit().is_err());
        drop(first);
        assert!(requests.admit().is_ok());
    }
}
