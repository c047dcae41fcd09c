//! Who may connect: networks and identities of one authorization (wire.md 3.3).

use std::{collections::HashSet, net::IpAddr};

use weft_proto::linkerd::inbound::{self as wire, authn};

use super::InboundTls;
use crate::{addr::Cidr, meta::Meta};

struct Network {
    net: Cidr,
    except: Vec<Cidr>,
}

enum Authn {
    Unauthenticated,
    TlsUnauthenticated,
    Identities { exact: HashSet<String>, suffixes: Vec<String> },
}

pub struct Authz {
    networks: Vec<Network>,
    authn: Authn,
    pub meta: Meta,
}

impl Authz {
    pub(super) fn from_wire(authz: &wire::Authz) -> Result<Self, String> {
        use authn::{Permit, permit_mesh_tls::Clients};
        if authz.networks.is_empty() {
            return Err("authorization lists no networks".to_owned());
        }
        let network = |network: &wire::Network| {
            let net = Cidr::from_wire(network.net.as_ref()?)?;
            let except = network.except.iter().map(Cidr::from_wire).collect::<Option<_>>()?;
            Some(Network { net, except })
        };
        let networks = authz.networks.iter().map(network).collect::<Option<_>>();
        let permit = authz.authentication.as_ref().and_then(|a| a.permit.as_ref());
        let authn = match permit.ok_or("authorization has no authentication")? {
            Permit::Unauthenticated(_) => Authn::Unauthenticated,
            Permit::MeshTls(tls) => match tls.clients.as_ref().ok_or("mesh TLS authentication names no clients")? {
                Clients::Unauthenticated(_) => Authn::TlsUnauthenticated,
                Clients::Identities(ids) => Authn::Identities {
                    exact: ids.identities.iter().map(|id| id.name.clone()).collect(),
                    suffixes: ids
                        .suffixes
                        .iter()
                        .map(|s| s.parts.iter().map(|part| format!(".{part}")).collect())
                        .collect(),
                },
            },
        };
        let meta = Meta::from_wire(authz.metadata.as_ref()).or_else(|| meta_from_labels(authz));
        Ok(Self {
            networks: networks.ok_or("authorization has an invalid network")?,
            authn,
            meta: meta.ok_or("authorization has no metadata")?,
        })
    }

    pub(super) fn admits(&self, client: IpAddr, tls: &InboundTls) -> bool {
        let in_network =
            self.networks.iter().any(|n| n.net.contains(client) && !n.except.iter().any(|e| e.contains(client)));
        in_network
            && match (&self.authn, tls) {
                (Authn::Unauthenticated, _) | (Authn::TlsUnauthenticated, InboundTls::Mesh { .. }) => true,
                (Authn::Identities { exact, suffixes }, InboundTls::Mesh { client_id: Some(id) }) => {
                    exact.contains(&**id)
                        || (!id.contains("://") && suffixes.iter().any(|suffix| id.ends_with(suffix.as_str())))
                }
                _ => false,
            }
    }
}

fn meta_from_labels(authz: &wire::Authz) -> Option<Meta> {
    let label = |key: &str| authz.labels.get(key).cloned();
    let name = label("name")?;
    let kind = label("kind").unwrap_or_else(|| "default".to_owned());
    Some(Meta { group: label("group").unwrap_or_default(), kind, ..Meta::built_in(&name) })
}
