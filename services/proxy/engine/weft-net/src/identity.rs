//! The workload's certificate and trust, swapped whole; TLS settings derived from them (wire.md 4.4).

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
    version::TLS13,
};
use weft_core::{endpoint::ServerId, metrics::Labels, transport_header};
use weft_proto::engine::SetIdentity;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// One consistent view; a handshake takes it once.
pub struct Identity {
    roots: Arc<RootCertStore>,
    cert: Option<Certificate>,
    /// None before the first certificate. No ALPN.
    pub server: Option<Arc<ServerConfig>>,
    /// The same, for connections that must bring a transport header.
    pub direct_server: Option<Arc<ServerConfig>>,
}

#[derive(Clone)]
struct Certificate {
    key: Arc<CertifiedKey>,
    /// Unix seconds.
    not_after_s: i64,
}

pub struct IdentityStore {
    local_name: String,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Identity>,
    writing: Mutex<()>,
}

fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::{cipher_suite as suites, kx_group};
    let mut provider = CryptoProvider {
        cipher_suites: vec![
            suites::TLS13_AES_128_GCM_SHA256,
            suites::TLS13_AES_256_GCM_SHA384,
            suites::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..aws_lc_rs::default_provider()
    };
    if cfg!(feature = "fips") {
        provider.cipher_suites.retain(|suite| suite.fips());
        provider.kx_groups.retain(|group| group.fips());
    }
    Arc::new(provider)
}

/// What this proxy's TLS offers, in order of preference, as the labels of `rustls_info`.
pub fn tls_labels() -> Labels {
    let provider = provider();
    let suites: Vec<_> = provider.cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect();
    let groups: Vec<_> = provider.kx_groups.iter().map(|group| format!("{:?}", group.name())).collect();
    Labels::default()
        .with("tls_suites", &suites.join(","))
        .with("tls_kx_groups", &groups.join(","))
        .with("tls_rand", &format!("{:?}", provider.secure_random))
        .with("tls_key_provider", &format!("{:?}", provider.key_provider))
        .with("tls_fips", &provider.fips().to_string())
}

impl IdentityStore {
    pub fn new(local_name: &str, anchors_pem: &str) -> Result<Self, String> {
        let provider = provider();
        let roots = Arc::new(roots_from_pem(anchors_pem)?);
        let first = Identity { roots, cert: None, server: None, direct_server: None };
        Ok(Self {
            local_name: local_name.to_owned(),
            provider,
            current: ArcSwap::from_pointee(first),
            writing: Mutex::new(()),
        })
    }

    pub fn current(&self) -> arc_swap::Guard<Arc<Identity>> {
        self.current.load()
    }

    /// New handshakes use it; running connections keep what they negotiated.
    pub fn set_identity(&self, new: &SetIdentity) -> Result<(), String> {
        let _writing = self.writing.lock();
        let roots = self.current.load().roots.clone();
        let chain: Vec<CertificateDer<'static>> = std::iter::once(&new.leaf_der)
            .chain(&new.intermediates_der)
            .map(|der| CertificateDer::from(der.clone()))
            .collect();
        verify_chain(&chain, &roots, &self.local_name)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(new.private_key_pkcs8.clone()));
        let key = self.provider.key_provider.load_private_key(key).map_err(|e| format!("private key: {e}"))?;
        let cert = CertifiedKey::new(chain, key);
        cert.keys_match().map_err(|e| format!("leaf and private key: {e}"))?;
        self.store(roots, Some(Certificate { key: Arc::new(cert), not_after_s: not_after_s(&new.leaf_der)? }))
    }

    pub fn set_trust_anchors(&self, pem: &str) -> Result<(), String> {
        let _writing = self.writing.lock();
        let roots = Arc::new(roots_from_pem(pem)?);
        let cert = self.current.load().cert.clone();
        self.store(roots, cert)
    }

    fn store(&self, roots: Arc<RootCertStore>, cert: Option<Certificate>) -> Result<(), String> {
        let (server, direct_server) = match &cert {
            Some(cert) => {
                (Some(self.server_config(&roots, cert, false)?), Some(self.server_config(&roots, cert, true)?))
            }
            None => (None, None),
        };
        self.current.store(Arc::new(Identity { roots, cert, server, direct_server }));
        Ok(())
    }

    fn server_config(
        &self,
        roots: &Arc<RootCertStore>,
        cert: &Certificate,
        direct: bool,
    ) -> Result<Arc<ServerConfig>, String> {
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), self.provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|e| format!("client verifier: {e}"))?;
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| format!("TLS server: {e}"))?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(Presented(Some(cert.clone()))));
        config.send_tls13_tickets = 0;
        if direct {
            config.alpn_protocols = vec![transport_header::ALPN.to_vec()];
        }
        Ok(Arc::new(config))
    }

    /// For one handshake to `server`, with the certificate and anchors of this moment.
    pub fn client_config(&self, server: &ServerId, with_transport_header: bool) -> Result<Arc<ClientConfig>, String> {
        let current = self.current.load();
        let verifier =
            ExactPeer { roots: current.roots.clone(), san: server.san.clone(), provider: self.provider.clone() };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| format!("TLS client: {e}"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(Presented(current.cert.clone())));
        config.resumption = Resumption::disabled();
        if with_transport_header {
            config.alpn_protocols = vec![transport_header::ALPN.to_vec()];
        }
        Ok(Arc::new(config))
    }
}

/// Our certificate, shown only to peers that take ECDSA P-256 signatures.
struct Presented(Option<Certificate>);

impl Presented {
    fn to(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let accepted = schemes.contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        self.0.as_ref().filter(|_| accepted).map(|cert| cert.key.clone())
    }

    /// A server refuses the whole handshake over an expired client certificate, though it takes clients without one; and
    /// after an outage, whoever wants a new certificate must reach identity.
    fn is_expired(&self) -> bool {
        self.0.as_ref().is_some_and(|cert| cert.not_after_s < now_s())
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Presented").field(&self.0.is_some()).finish()
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.to(hello.signature_schemes())
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.to(schemes).filter(|_| !self.is_expired())
    }

    fn has_certs(&self) -> bool {
        self.0.is_some() && !self.is_expired()
    }
}

/// Accepts a chain to our anchors whose leaf carries exactly the expected SAN: no wildcards, no other names.
#[derive(Debug)]
struct ExactPeer {
    roots: Arc<RootCertStore>,
    san: Arc<str>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ExactPeer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _sni: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        let names = names_of(leaf);
        if names.iter().any(|name| **name == *self.san) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(TlsError::General(format!("peer is {names:?}, expected {:?}", self.san)))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is not spoken in the mesh".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

/// DNS and URI names of a certificate, in its order; empty when it cannot be read.
pub fn names_of(cert: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, cert)) = X509Certificate::from_der(cert) else {
        return Vec::new();
    };
    let Ok(Some(san)) = cert.subject_alternative_name() else {
        return Vec::new();
    };
    let names = san.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        _ => None,
    });
    names.collect()
}

fn roots_from_pem(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for cert in rustls_pemfile::certs(&mut pem.as_bytes()) {
        let cert = cert.map_err(|e| format!("trust anchors: {e}"))?;
        roots.add(cert).map_err(|e| format!("trust anchors: {e}"))?;
    }
    if roots.is_empty() {
        return Err("trust anchors: no certificate found in the PEM text".to_owned());
    }
    Ok(roots)
}

fn verify_chain(chain: &[CertificateDer<'_>], roots: &RootCertStore, local_name: &str) -> Result<(), String> {
    let (leaf, intermediates) = chain.split_first().ok_or("no leaf certificate")?;
    let parsed = ParsedCertificate::try_from(leaf).map_err(|e| format!("leaf certificate: {e}"))?;
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, UnixTime::now(), algorithms)
        .map_err(|e| format!("leaf certificate is not trusted: {e}"))?;
    let names = names_of(leaf);
    if names.iter().any(|name| name == local_name) {
        Ok(())
    } else {
        Err(format!("leaf certificate is for {names:?}, expected {local_name:?}"))
    }
}

/// Checks a Certify answer before it is installed. Returns the leaf's remaining lifetime.
pub fn verify_leaf(
    leaf_der: &[u8],
    intermediates_der: &[Vec<u8>],
    anchors_pem: &str,
    local_name: &str,
) -> Result<Duration, String> {
    let chain: Vec<_> = std::iter::once(leaf_der)
        .chain(intermediates_der.iter().map(Vec::as_slice))
        .map(CertificateDer::from)
        .collect();
    verify_chain(&chain, &roots_from_pem(anchors_pem)?, local_name)?;
    let left = not_after_s(leaf_der)? - now_s();
    Ok(Duration::from_secs(left.max(0) as u64))
}

/// Unix seconds.
fn not_after_s(leaf_der: &[u8]) -> Result<i64, String> {
    let (_, cert) = X509Certificate::from_der(leaf_der).map_err(|e| format!("leaf certificate: {e}"))?;
    Ok(cert.validity().not_after.timestamp())
}

fn now_s() -> i64 {
    UnixTime::now().as_secs() as i64
}

/// A fresh P-256 key (PKCS#8 DER) and its signing request (DER): CN and one DNS SAN, both the local name.
pub fn generate_key_and_csr(local_name: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|e| format!("key: {e}"))?;
    let mut params =
        rcgen::CertificateParams::new(vec![local_name.to_owned()]).map_err(|e| format!("name {local_name:?}: {e}"))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, local_name);
    let csr = params.serialize_request(&key).map_err(|e| format!("signing request: {e}"))?;
    Ok((key.serialize_der(), csr.der().to_vec()))
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConnection, NamedGroup, ServerConnection, crypto::SupportedKxGroup};

    use super::*;

    const NAME: &str = "web.shop";

    fn presented(not_after_s: i64) -> Presented {
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec!["web.shop".to_owned()]).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = provider().key_provider.load_private_key(key).unwrap();
        let key = Arc::new(CertifiedKey::new(vec![cert.der().clone()], key));
        Presented(Some(Certificate { key, not_after_s }))
    }

    fn is_brought(cert: &Presented, scheme: SignatureScheme) -> bool {
        let client: &dyn ResolvesClientCert = cert;
        client.has_certs() && client.resolve(&[], &[scheme]).is_some()
    }

    #[cfg(feature = "fips")]
    #[test]
    fn a_fips_build_offers_validated_cryptography_only() {
        assert!(provider().fips());
    }

    #[test]
    fn a_certificate_is_brought_to_servers_until_it_expires() {
        let fresh = presented(now_s() + 60);
        assert!(is_brought(&fresh, SignatureScheme::ECDSA_NISTP256_SHA256));
        assert!(!is_brought(&fresh, SignatureScheme::ED25519));
        assert!(!is_brought(&presented(now_s() - 1), SignatureScheme::ECDSA_NISTP256_SHA256));
    }

    type Groups = Vec<&'static dyn SupportedKxGroup>;

    /// Proxies with one certificate, each knowing the groups that are given.
    fn proxies<const N: usize>(groups: [Groups; N]) -> [IdentityStore; N] {
        let (ca_key, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let anchor = ca.self_signed(&ca_key).unwrap();
        let leaf = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).unwrap();
        groups.map(|kx_groups| {
            let mut store = IdentityStore::new(NAME, &anchor.pem()).unwrap();
            store.provider = Arc::new(CryptoProvider { kx_groups, ..(*provider()).clone() });
            let (leaf_der, private_key_pkcs8) = (leaf.der().to_vec(), key.serialize_der());
            store.set_identity(&SetIdentity { leaf_der, private_key_pkcs8, ..SetIdentity::default() }).unwrap();
            store
        })
    }

    /// The group that a handshake settles on.
    fn agreed(client: Groups, server: Groups) -> NamedGroup {
        let [client, server] = proxies([client, server]);
        let config = client.client_config(&ServerId { san: NAME.into(), sni: NAME.into() }, true).unwrap();
        let mut client = ClientConnection::new(config, NAME.try_into().unwrap()).unwrap();
        let config = server.current().direct_server.clone().unwrap();
        let mut server = ServerConnection::new(config).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            let mut unread = &bytes[..];
            while !unread.is_empty() {
                server.read_tls(&mut unread).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            let mut unread = &bytes[..];
            while !unread.is_empty() {
                client.read_tls(&mut unread).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        let group = client.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(server.negotiated_key_exchange_group().unwrap().name(), group);
        group
    }

    #[test]
    fn two_of_us_exchange_keys_by_the_post_quantum_hybrid() {
        let ours = provider().kx_groups.clone();
        assert_eq!(agreed(ours.clone(), ours), NamedGroup::X25519MLKEM768);
    }

    #[test]
    fn a_peer_without_the_hybrid_is_met_with_what_it_has() {
        let ours = provider().kx_groups.clone();
        assert!(ours.len() > 1);
        for group in &ours[1..] {
            let only = || vec![*group];
            assert_eq!(agreed(ours.clone(), only()), group.name(), "as client");
            assert_eq!(agreed(only(), ours.clone()), group.name(), "as server");
        }
    }
}
