//! Which of a route's backends takes a request: by order or by weight, among those that could take it now.

use crate::balance::weighted;

/// Index into `ClientPolicy::backends`.
pub type BackendIndex = usize;

/// A backend with what its route does on the way to it.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteBackend<F> {
    pub backend: BackendIndex,
    pub filters: F,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Distribution<F> {
    Empty,
    First(Vec<RouteBackend<F>>),
    Random(Vec<(RouteBackend<F>, u32)>),
}

/// Why nothing was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBackend {
    Empty,
    /// Every backend fails fast.
    AllShut,
}

impl<F> Distribution<F> {
    /// is_available: false for backends that fail fast. One that did not resolve is available: it keeps its share and
    /// fails it, for traffic must not move silently.
    pub fn choose(
        &self,
        is_available: impl Fn(BackendIndex) -> bool,
        random: impl FnOnce() -> u64,
    ) -> Result<&RouteBackend<F>, NoBackend> {
        match self {
            Self::Empty => Err(NoBackend::Empty),
            Self::First(all) => all.iter().find(|one| is_available(one.backend)).ok_or(NoBackend::AllShut),
            Self::Random(all) => {
                let is_available = &is_available;
                let weights = all.iter().map(|(one, weight)| if is_available(one.backend) { *weight } else { 0 });
                let drawn = weighted(weights, random()).ok_or(NoBackend::AllShut)?;
                Ok(&all[drawn].0)
            }
        }
    }

    pub fn backends(&self) -> impl Iterator<Item = &RouteBackend<F>> {
        let (first, random) = match self {
            Self::Empty => (&[][..], &[][..]),
            Self::First(all) => (&all[..], &[][..]),
            Self::Random(all) => (&[][..], &all[..]),
        };
        first.iter().chain(random.iter().map(|(one, _)| one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Rng;

    fn one(backend: BackendIndex) -> RouteBackend<()> {
        RouteBackend { backend, filters: () }
    }

    #[test]
    fn the_first_available_is_taken() {
        let distribution = Distribution::First(vec![one(0), one(1)]);
        assert_eq!(distribution.choose(|_| true, || 0), Ok(&one(0)));
        assert_eq!(distribution.choose(|backend| backend == 1, || 0), Ok(&one(1)));
        assert_eq!(distribution.choose(|_| false, || 0), Err(NoBackend::AllShut));
        assert_eq!(Distribution::<()>::Empty.choose(|_| true, || 0), Err(NoBackend::Empty));
    }

    #[test]
    fn weights_are_shared_among_the_available() {
        let distribution = Distribution::Random(vec![(one(0), 1), (one(1), 3), (one(2), 6)]);
        let mut rng = Rng(7);
        let mut hits = [0; 3];
        for _ in 0..4000 {
            hits[distribution.choose(|backend| backend != 2, || rng.next_u64()).unwrap().backend] += 1;
        }
        assert_eq!(hits[2], 0);
        assert!((900..1100).contains(&hits[0]), "{hits:?}");
        assert_eq!(distribution.choose(|_| false, || 0), Err(NoBackend::AllShut));
    }
}
