"""The same tests against the embedded API server and against a real kube-apiserver with etcd."""
