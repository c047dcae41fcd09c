# Every image of Weft: `docker buildx bake`. Where no Docker engine exists, scripts/images builds the same with buildah.
variable "PREFIX" { default = "weft/" }
variable "VERSION" { default = "0.1.0" }
# A release passes these with @sha256:…, as resolved by .github/workflows/release.yaml.
variable "BUILDER" { default = "docker.io/library/python:3.13-bookworm" }
variable "RUNTIME" { default = "docker.io/library/python:3.13-slim-bookworm" }
variable "RUST" { default = "docker.io/library/rust:1-slim-bookworm" }
# Seconds since 1970 of the commit: the files of two builds then carry the same time.
variable "SOURCE_DATE_EPOCH" { default = "0" }

group "default" {
  targets = ["service", "proxy", "debug", "bookshop"]
}

target "base" {
  context = "."
  args = {
    BUILDER           = BUILDER
    RUNTIME           = RUNTIME
    VERSION           = VERSION
    SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH
  }
}

target "service" {
  name       = service
  inherits   = ["base"]
  matrix     = { service = ["identity", "destination", "injector", "metrics-api", "web"] }
  dockerfile = "services/${service}/Dockerfile"
  tags       = ["${PREFIX}${service}:${VERSION}"]
}

target "engine" {
  context    = "."
  dockerfile = "services/proxy/engine/Dockerfile"
  args       = { RUST = RUST, SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH }
}

target "proxy" {
  inherits   = ["base"]
  dockerfile = "services/proxy/Dockerfile"
  contexts   = { engine = "target:engine" }
  tags       = ["${PREFIX}proxy:${VERSION}"]
}

target "debug" {
  inherits   = ["base"]
  dockerfile = "services/proxy/debug/Dockerfile"
  tags       = ["${PREFIX}debug:${VERSION}"]
}

target "bookshop" {
  inherits   = ["base"]
  dockerfile = "examples/bookshop/Dockerfile"
  tags       = ["${PREFIX}bookshop:${VERSION}"]
}
