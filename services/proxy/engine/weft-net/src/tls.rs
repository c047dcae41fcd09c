//! Mesh TLS: our certificate, whom we trust, and how peers prove who they are.
//!
//! Configurations are built when a certificate or bundle arrives and swapped atomically, so a handshake costs no lock and an
//! established connection never notices a rotation. Parameters: contract wire.md 4.4.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Protocol that both ends agree on when a transport header follows the handshake.
pub const TRANSPORT_ALPN: &[u8] = b"transport.l5d.io/v1";

/// Why key material was refused. The text names the part and the cause, never the material.
#[derive(Debug)]
pub struct BadMaterial(pub String);

impl std::fmt::Display for BadMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadMaterial {}

/// Our leaf with its chain and key, as the identity service issued it.
pub struct Leaf {
    key: Arc<CertifiedKey>,
    pub not_after: SystemTime,
}

/// Whom a client dials: the name sent as SNI, and the identity the server must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerIdentity {
    pub server_name: String,
    pub expected_id: String,
}

impl ServerIdentity {
    /// The usual DNS form, where both are the same.
    pub fn dns(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { server_name: name.clone(), expected_id: name }
    }
}

struct ServerConfigs {
    plain: Arc<ServerConfig>,
    transport: Arc<ServerConfig>,
}

/// The process's identity: what it presents and what it trusts, now.
pub struct Identity {
    local_name: String,
    provider: Arc<CryptoProvider>,
    roots: ArcSwap<RootCertStore>,
    leaf: ArcSwapOption<Leaf>,
    server: ArcSwapOption<ServerConfigs>,
}

impl Identity {
    pub fn new(local_name: &str, anchors_pem: &str) -> Result<Self, BadMaterial> {
        Ok(Self {
            local_name: local_name.to_owned(),
            provider: Arc::new(provider()),
            roots: ArcSwap::from_pointee(parse_anchors(anchors_pem)?),
            leaf: ArcSwapOption::empty(),
            server: ArcSwapOption::empty(),
        })
    }

    pub fn local_name(&self) -> &str {
        &self.local_name
    }

    /// Whether a certificate has been set; before that nothing inbound can be terminated.
    pub fn has_leaf(&self) -> bool {
        self.leaf.load().is_some()
    }

    /// Trust another bundle from the next handshake on.
    pub fn set_anchors(&self, pem: &str) -> Result<(), BadMaterial> {
        self.roots.store(Arc::new(parse_anchors(pem)?));
        self.rebuild_server()
    }

    /// Present another certificate from the next handshake on. Refused when it does not verify for our own name.
    pub fn set_leaf(
        &self,
        leaf_der: Vec<u8>,
        intermediates_der: Vec<Vec<u8>>,
        key_pkcs8: Vec<u8>,
        not_after: SystemTime,
    ) -> Result<(), BadMaterial> {
        let leaf = CertificateDer::from(leaf_der);
        let intermediates: Vec<_> = intermediates_der.into_iter().map(CertificateDer::from).collect();
        verify_chain(&leaf, &intermediates, &self.roots.load(), &self.local_name, UnixTime::now())?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key_pkcs8));
        let signer = self
            .provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| BadMaterial(format!("private key: {error}")))?;
        let chain = std::iter::once(leaf).chain(intermediates).collect();
        let certified = CertifiedKey::new(chain, signer);
        certified.keys_match().map_err(|error| BadMaterial(format!("the leaf is not for our key: {error}")))?;
        self.leaf.store(Some(Arc::new(Leaf { key: Arc::new(certified), not_after })));
        self.rebuild_server()
    }

    /// For connections to an application port: no ALPN. None before the first certificate.
    pub fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.server.load().as_ref().map(|configs| configs.plain.clone())
    }

    /// For direct connections, which must agree on TRANSPORT_ALPN.
    pub fn transport_server_config(&self) -> Option<Arc<ServerConfig>> {
        self.server.load().as_ref().map(|configs| configs.transport.clone())
    }

    /// For one peer. Keep and reuse it per endpoint: building it copies the roots' handle only, but allocates.
    /// Our certificate and the anchors are looked up at each handshake, so a kept configuration follows rotations.
    pub fn client_config(self: &Arc<Self>, peer: &ServerIdentity, transport: bool) -> Arc<ClientConfig> {
        let verifier = PeerVerifier {
            identity: self.clone(),
            expected_id: peer.expected_id.clone(),
            algorithms: self.provider.signature_verification_algorithms,
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3 suites")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(OwnCertificate(self.clone())));
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        if transport {
            config.alpn_protocols = vec![TRANSPORT_ALPN.to_vec()];
        }
        Arc::new(config)
    }

    fn rebuild_server(&self) -> Result<(), BadMaterial> {
        let Some(leaf) = self.leaf.load_full() else {
            return Ok(());
        };
        let plain = self.build_server(&leaf, &[])?;
        let transport = self.build_server(&leaf, &[TRANSPORT_ALPN])?;
        self.server.store(Some(Arc::new(ServerConfigs { plain, transport })));
        Ok(())
    }

    fn build_server(&self, leaf: &Leaf, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, BadMaterial> {
        let clients =
            WebPkiClientVerifier::builder_with_provider(self.roots.load_full(), self.provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(|error| BadMaterial(format!("trust anchors: {error}")))?;
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| BadMaterial(error.to_string()))?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(leaf.key.clone())));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// The identity in a peer's verified certificate: its first DNS or URI subject alternative name.
pub fn peer_identity(certificates: Option<&[CertificateDer<'_>]>) -> Option<String> {
    let leaf = certificates?.first()?;
    subject_alternative_names(leaf).into_iter().next()
}

/// Check an answer of the identity service before it is used. Errors say which check failed.
pub fn verify_leaf(
    leaf_der: &[u8],
    intermediates_der: &[Vec<u8>],
    anchors_pem: &str,
    local_name: &str,
) -> Result<(), BadMaterial> {
    let roots = parse_anchors(anchors_pem)?;
    let leaf = CertificateDer::from(leaf_der.to_vec());
    let intermediates: Vec<_> = intermediates_der.iter().cloned().map(CertificateDer::from).collect();
    verify_chain(&leaf, &intermediates, &roots, local_name, UnixTime::now())
}

/// TLS 1.3 only, in the contract's order of preference.
fn provider() -> CryptoProvider {
    use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..default_provider()
    }
}

fn parse_anchors(pem: &str) -> Result<RootCertStore, BadMaterial> {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut pem.as_bytes()) {
        let certificate = certificate.map_err(|error| BadMaterial(format!("trust anchors: {error}")))?;
        roots.add(certificate).map_err(|error| BadMaterial(format!("trust anchors: {error}")))?;
    }
    if roots.is_empty() {
        return Err(BadMaterial("trust anchors: the bundle holds no certificate".to_owned()));
    }
    Ok(roots)
}

fn verify_chain(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    name: &str,
    now: UnixTime,
) -> Result<(), BadMaterial> {
    let parsed = ParsedCertificate::try_from(leaf).map_err(|error| BadMaterial(format!("leaf: {error}")))?;
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms.all)
        .map_err(|error| BadMaterial(format!("the leaf does not chain to the trust anchors: {error}")))?;
    if subject_alternative_names(leaf).iter().any(|found| found == name) {
        Ok(())
    } else {
        Err(BadMaterial(format!("the leaf is not for {name}")))
    }
}

fn subject_alternative_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect()
}

/// Verifies a server's chain to the anchors trusted now, then one of its names, exactly: no wildcards.
struct PeerVerifier {
    identity: Arc<Identity>,
    expected_id: String,
    algorithms: WebPkiSupportedAlgorithms,
}

impl std::fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerVerifier").field("expected_id", &self.expected_id).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let roots = self.identity.roots.load();
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        if subject_alternative_names(leaf).iter().any(|name| *name == self.expected_id) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Presents the leaf of the moment, if the peer takes its kind of signature.
struct OwnCertificate(Arc<Identity>);

impl std::fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnCertificate")
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let leaf = self.0.leaf.load();
        let key = &leaf.as_ref()?.key;
        key.key.choose_scheme(schemes).is_some().then(|| key.clone())
    }

    fn has_certs(&self) -> bool {
        self.0.has_leaf()
    }
}
