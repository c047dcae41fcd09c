//! Python binding of the data path: bytes in, bytes out, and the interpreter lock released around everything that works.

use pyo3::{
    exceptions::{PyOSError, PyValueError},
    prelude::*,
    types::PyBytes,
};
use weft_net::CommandError;

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

#[pymodule]
fn weft_engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Engine>()?;
    module.add_function(wrap_pyfunction!(generate_key_and_csr, module)?)?;
    module.add_function(wrap_pyfunction!(verify_leaf, module)?)
}
