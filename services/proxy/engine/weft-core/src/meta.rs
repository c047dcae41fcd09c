//! Where a policy element comes from, and how that reads in metric labels.

use weft_proto::linkerd::meta::{self as wire, metadata::Kind};

use crate::metrics::Labels;

/// A cluster resource, or something built in: then group and namespace are empty and the kind is `default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub group: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub section: String,
    /// 0 when the resource names no port.
    pub port: u32,
}

impl Meta {
    pub fn built_in(name: &str) -> Self {
        Self {
            group: String::new(),
            kind: "default".to_owned(),
            namespace: String::new(),
            name: name.to_owned(),
            section: String::new(),
            port: 0,
        }
    }

    /// Of the default policy that admits everybody and has what it would otherwise refuse logged.
    pub fn is_audit(&self) -> bool {
        self.group.is_empty() && self.kind == "default" && self.name == "audit"
    }

    /// None when the message says nothing, which makes the policy around it invalid.
    pub fn from_wire(meta: Option<&wire::Metadata>) -> Option<Self> {
        Some(match meta?.kind.as_ref()? {
            Kind::Default(name) => Self::built_in(name),
            Kind::Resource(r) => Self {
                group: r.group.clone(),
                kind: r.kind.clone(),
                namespace: r.namespace.clone(),
                name: r.name.clone(),
                section: r.section.clone(),
                port: r.port,
            },
        })
    }

    /// As outbound policy names its parts: a resource in full. Errors say what is missing (wire.md 1.2, 2.7).
    pub fn in_full(meta: Option<&wire::Metadata>, of: &str) -> Result<Self, String> {
        let found = Self::from_wire(meta).ok_or_else(|| format!("{of} has no metadata"))?;
        if let Some(Kind::Resource(r)) = meta.and_then(|meta| meta.kind.as_ref()) {
            let parts = [("group", &r.group), ("kind", &r.kind), ("name", &r.name), ("namespace", &r.namespace)];
            if let Some((part, _)) = parts.iter().find(|(_, value)| value.is_empty()) {
                return Err(format!("the resource of a {of} has no {part}"));
            }
        }
        Ok(found)
    }

    /// As messages carry it.
    pub fn to_wire(&self) -> wire::Metadata {
        let kind = if self.kind == "default" && self.group.is_empty() {
            Kind::Default(self.name.clone())
        } else {
            Kind::Resource(wire::Resource {
                group: self.group.clone(),
                kind: self.kind.clone(),
                name: self.name.clone(),
                namespace: self.namespace.clone(),
                section: self.section.clone(),
                port: self.port,
            })
        };
        wire::Metadata { kind: Some(kind) }
    }

    fn port_text(&self) -> String {
        if self.port == 0 { String::new() } else { self.port.to_string() }
    }

    /// `<prefix>_group`, `_kind`, `_name`: inbound routes and authorizations.
    pub fn short_labels(&self, prefix: &str, labels: &mut Labels) {
        labels.add_prefixed(prefix, "group", &self.group);
        labels.add_prefixed(prefix, "kind", &self.kind);
        labels.add_prefixed(prefix, "name", &self.name);
    }

    /// The four labels of an outbound route.
    pub fn route_labels(&self, labels: &mut Labels) {
        labels.add("route_group", &self.group);
        labels.add("route_kind", &self.kind);
        labels.add("route_namespace", &self.namespace);
        labels.add("route_name", &self.name);
    }

    /// The six labels of an outbound parent or backend.
    pub fn full_labels(&self, prefix: &str, labels: &mut Labels) {
        labels.add_prefixed(prefix, "group", &self.group);
        labels.add_prefixed(prefix, "kind", &self.kind);
        labels.add_prefixed(prefix, "namespace", &self.namespace);
        labels.add_prefixed(prefix, "name", &self.name);
        labels.add_prefixed(prefix, "port", &self.port_text());
        labels.add_prefixed(prefix, "section_name", &self.section);
    }
}
