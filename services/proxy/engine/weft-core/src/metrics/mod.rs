//! Metric families and their exposition (observability.md 1.1). Handles are resolved once and then touched without a
//! lock; each family holds a bounded number of series.

mod http;
mod inbound_route;
mod registry;
mod route;
mod value;

pub use http::{HttpFamilies, HttpMetrics, Outcome};
pub use inbound_route::{InboundRouteFamilies, InboundRouteSeries};
pub use registry::{Family, Kind, Labels, Registry};
pub use route::{BackendSeries, RouteFamilies, RouteKind, RouteOutcome, RouteSeries};
pub use value::{Counter, Gauge, Histogram, LATENCY_MS, Metric};
