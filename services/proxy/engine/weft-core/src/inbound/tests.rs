use weft_proto::linkerd::{inbound::authn, meta as wire_meta, net};

use super::*;
use crate::addr::wire_ip;

fn network(cidr: &str) -> net::IpNetwork {
    let (ip, prefix) = cidr.split_once('/').unwrap();
    net::IpNetwork { ip: Some(wire_ip(ip.parse().unwrap())), prefix_len: prefix.parse().unwrap() }
}

fn authz(cidr: &str, except: &[&str], permit: authn::Permit) -> wire::Authz {
    let except = except.iter().map(|cidr| network(cidr)).collect();
    wire::Authz {
        networks: vec![wire::Network { net: Some(network(cidr)), except }],
        authentication: Some(wire::Authn { permit: Some(permit) }),
        metadata: Some(wire_meta::Metadata { kind: Some(wire_meta::metadata::Kind::Default("it".into())) }),
        labels: Default::default(),
    }
}

fn identities(exact: &[&str], suffixes: &[&[&str]]) -> authn::Permit {
    let ids = authn::permit_mesh_tls::PermitClientIdentities {
        identities: exact.iter().map(|name| wire::Identity { name: (*name).into() }).collect(),
        suffixes: suffixes
            .iter()
            .map(|parts| wire::IdentitySuffix { parts: parts.iter().map(|p| (*p).into()).collect() })
            .collect(),
    };
    authn::Permit::MeshTls(authn::PermitMeshTls { clients: Some(authn::permit_mesh_tls::Clients::Identities(ids)) })
}

fn server(authorizations: Vec<wire::Authz>) -> Result<ServerPolicy, String> {
    ServerPolicy::from_wire(&wire::Server {
        protocol: Some(wire::ProxyProtocol { kind: Some(Kind::Opaque(Default::default())) }),
        authorizations,
        labels: [("name".to_owned(), "srv".to_owned())].into(),
        ..Default::default()
    })
}

fn mesh(id: &str) -> InboundTls {
    InboundTls::Mesh { client_id: Some(id.into()) }
}

const PLAIN: InboundTls = InboundTls::NoTls { reason: NoTls::FromRemote };

#[test]
fn networks_admit_with_exceptions() {
    let permit = authn::Permit::Unauthenticated(Default::default());
    let policy = server(vec![authz("10.0.0.0/8", &["10.9.0.0/16"], permit)]).unwrap();
    assert!(policy.authorize(None, "10.1.0.1".parse().unwrap(), &PLAIN).is_some());
    assert!(policy.authorize(None, "10.9.0.1".parse().unwrap(), &PLAIN).is_none());
    assert!(policy.authorize(None, "192.0.2.1".parse().unwrap(), &PLAIN).is_none());
}

#[test]
fn identities_match_exactly_or_by_suffix_of_whole_labels() {
    let client = "10.1.0.1".parse().unwrap();
    let policy = server(vec![authz("0.0.0.0/0", &[], identities(&["a.ns.x"], &[&["ok", "x"]]))]).unwrap();
    assert!(policy.authorize(None, client, &mesh("a.ns.x")).is_some());
    assert!(policy.authorize(None, client, &mesh("b.ok.x")).is_some());
    assert!(policy.authorize(None, client, &mesh("b.notok.x")).is_none());
    assert!(policy.authorize(None, client, &mesh("ok.x")).is_none());
    assert!(policy.authorize(None, client, &PLAIN).is_none());
    assert!(policy.authorize(None, client, &InboundTls::Mesh { client_id: None }).is_none());
}

#[test]
fn a_suffix_without_parts_admits_any_dns_identity_only() {
    let client = "10.1.0.1".parse().unwrap();
    let policy = server(vec![authz("0.0.0.0/0", &[], identities(&[], &[&[]]))]).unwrap();
    assert!(policy.authorize(None, client, &mesh("anyone.x")).is_some());
    assert!(policy.authorize(None, client, &mesh("spiffe://x/y")).is_none());
}

#[test]
fn loopback_is_always_admitted_and_a_bad_policy_admits_nobody_else() {
    let policy = ServerPolicy::invalid();
    let meta = policy.authorize(None, "127.0.0.1".parse().unwrap(), &PLAIN).unwrap();
    assert_eq!(meta.name, "loopback");
    assert!(policy.authorize(None, "10.0.0.1".parse().unwrap(), &mesh("a")).is_none());
}

#[test]
fn incomplete_policies_are_refused_with_a_reason() {
    let mut no_network = authz("10.0.0.0/8", &[], authn::Permit::Unauthenticated(Default::default()));
    no_network.networks.clear();
    assert_eq!(server(vec![no_network]).err().unwrap(), "authorization lists no networks");
    assert!(ServerPolicy::from_wire(&wire::Server::default()).is_err());
}
