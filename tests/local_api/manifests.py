"""Objects as people write them, in YAML, for the kubectl tests."""

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: app, namespace: x, labels: {app: app}}
spec:
  containers:
    - name: main
      image: example/app:1.2.3
      command: [sleep, infinity]
      ports: [{containerPort: 8080, name: http}]
      env: [{name: GREETING, value: hello}]
"""

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: x, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - {name: main, image: "example/web:1", ports: [{containerPort: 80}]}
"""

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: x}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80}]
"""

CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd]}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      additionalPrinterColumns:
        - {name: Size, type: integer, jsonPath: .spec.size}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [size]
              properties:
                size: {type: integer, minimum: 1}
                colour: {type: string, default: red}
            status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""

WIDGET = """\
apiVersion: example.com/v1
kind: Widget
metadata: {name: one, namespace: x}
spec: {size: 3}
"""
