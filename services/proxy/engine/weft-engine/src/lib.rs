//! Python binding of the data path: bytes in, bytes out, and the interpreter lock released around everything that works.

use std::net::IpAddr;

use prost::Message;
use pyo3::{
    exceptions::{PyOSError, PyValueError},
    prelude::*,
    types::PyBytes,
};
use weft_core::{
    explain::{self, Imagined},
    route::RouteIndex,
};
use weft_net::CommandError;
use weft_proto::linkerd::{inbound::Server, outbound::OutboundPolicy};

/// One proxy's data path.
#[pyclass(frozen)]
struct Engine(weft_net::Engine);

fn raised(error: CommandError) -> PyErr {
    match error {
        CommandError::Invalid(reason) => PyValueError::new_err(reason),
        CommandError::Io(error) => PyOSError::new_err(error.to_string()),
    }
}

#[pymethods]
impl Engine {
    #[new]
    fn new(settings: &[u8]) -> PyResult<Self> {
        weft_net::Engine::new(settings).map(Self).map_err(PyValueError::new_err)
    }

    fn start(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.start()).map_err(|error| PyOSError::new_err(error.to_string()))
    }

    fn event_fd(&self) -> i32 {
        self.0.event_fd()
    }

    fn drain_events<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let events = py.detach(|| self.0.drain_events());
        events.iter().map(|event| PyBytes::new(py, event)).collect()
    }

    fn apply(&self, py: Python<'_>, command: &[u8]) -> PyResult<()> {
        py.detach(|| self.0.apply(command)).map_err(raised)
    }

    fn metrics<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let text = py.detach(|| self.0.metrics());
        PyBytes::new(py, text.as_bytes())
    }

    fn decisions<'py>(&self, py: Python<'py>, asked: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let list = py.detach(|| self.0.decisions(asked)).map_err(raised)?;
        Ok(PyBytes::new(py, &list))
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}

/// Private key (PKCS#8 DER) and signing request (DER) for a workload's DNS name.
#[pyfunction]
fn generate_key_and_csr<'py>(py: Python<'py>, name: &str) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let (key, csr) = weft_net::generate_key_and_csr(name).map_err(PyValueError::new_err)?;
    Ok((PyBytes::new(py, &key), PyBytes::new(py, &csr)))
}

/// Raises ValueError unless the leaf is for `name` and chains to an anchor now.
#[pyfunction]
fn verify_leaf(leaf: &[u8], intermediates: Vec<Vec<u8>>, anchors_pem: &str, name: &str) -> PyResult<()> {
    weft_net::verify_leaf(leaf, &intermediates, anchors_pem, name).map(drop).map_err(PyValueError::new_err)
}

/// Route and rule as places in the policy message.
type Place = (usize, usize);

fn place(index: RouteIndex) -> Place {
    (index.route, index.rule)
}

/// Raises ValueError for a request that cannot be, or a policy that no proxy would use.
#[pyfunction]
fn outbound_rule(
    policy: &[u8],
    is_http2: bool,
    method: &str,
    authority: &str,
    target: &str,
    headers: Vec<(String, String)>,
) -> PyResult<Option<Place>> {
    let policy = OutboundPolicy::decode(policy).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let request = Imagined::new(method, authority, target, &headers).map_err(PyValueError::new_err)?;
    let found = explain::outbound_rule(&policy, is_http2, &request).map_err(PyValueError::new_err)?;
    Ok(found.map(place))
}

/// Whether a route takes the request and which, and (group, kind, name) of what admits the client.
type Reception = (bool, Option<Place>, Option<(String, String, String)>);

/// Raises ValueError for a request that cannot be, or a policy that no proxy would use.
#[pyfunction]
fn reception(
    server: &[u8],
    method: &str,
    authority: &str,
    target: &str,
    headers: Vec<(String, String)>,
    client: IpAddr,
    client_id: Option<&str>,
) -> PyResult<Reception> {
    let server = Server::decode(server).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let request = Imagined::new(method, authority, target, &headers).map_err(PyValueError::new_err)?;
    let found = explain::reception(&server, &request, client, client_id).map_err(PyValueError::new_err)?;
    let admitted_by = found.admitted_by.map(|meta| (meta.group, meta.kind, meta.name));
    Ok((found.route.is_some(), found.route.flatten().map(place), admitted_by))
}

#[pymodule]
fn weft_engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Engine>()?;
    module.add_function(wrap_pyfunction!(generate_key_and_csr, module)?)?;
    module.add_function(wrap_pyfunction!(verify_leaf, module)?)?;
    module.add_function(wrap_pyfunction!(outbound_rule, module)?)?;
    module.add_function(wrap_pyfunction!(reception, module)?)
}
