//! A workload's key and its certificate signing request (contract wire.md 4.2).

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::tls::BadMaterial;

/// PKCS#8 DER of a new ECDSA P-256 key, and DER of a request whose common name and only DNS name are `local_name`.
pub fn generate(local_name: &str) -> Result<(Vec<u8>, Vec<u8>), BadMaterial> {
    let failed = |error: rcgen::Error| BadMaterial(format!("cannot make a key and request for {local_name}: {error}"));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::new(vec![local_name.to_owned()]).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, local_name);
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok((key.serialize_der(), request.der().to_vec()))
}
