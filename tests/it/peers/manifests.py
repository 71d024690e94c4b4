"""Holds the manifests of a folder against Kubernetes' own schemas, and against each other: manifests.py FOLDER

Resources of other people's kinds, such as ServiceMonitor, have no schema here; of them only the names are looked at.
"""

import sys
from pathlib import Path

import kubernetes_validate
import yaml

# The oldest and the newest that Kubernetes' makers still mend, about.
VERSIONS = ["1.32", "1.37"]


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def kustomized(folder):
    """The resources of a kustomization, each with its file."""
    (kustomization,) = documents(folder / "kustomization.yaml")
    for name in kustomization["resources"]:
        yield from ((folder / name, document) for document in documents(folder / name))


def validate(path, resource):
    if resource["apiVersion"].startswith("monitoring.coreos.com/"):
        return
    for version in VERSIONS:
        kubernetes_validate.validate(resource, version, strict=True)


def of_kind(resources, kind):
    return [resource for _, resource in resources if resource["kind"] == kind]


def check_names(resources, folder):
    """What one resource says of another is so."""
    (kustomization,) = documents(folder / "kustomization.yaml")
    configurations = [generated["name"] for generated in kustomization["configMapGenerator"]]
    for generated in kustomization["configMapGenerator"]:
        for file in generated["files"]:
            assert (folder / file).is_file(), f"{file} is not there"
    (gateways,) = of_kind(resources, "StatefulSet")
    (job,) = of_kind(resources, "Job")
    services = {service["metadata"]["name"]: service for service in of_kind(resources, "Service")}
    accounts = [account["metadata"]["name"] for account in of_kind(resources, "ServiceAccount")]
    assert services[gateways["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
    labels = gateways["spec"]["template"]["metadata"]["labels"]
    selectors = [gateways["spec"]["selector"]["matchLabels"]]
    selectors += [service["spec"]["selector"] for service in services.values()]
    selectors += [budget["spec"]["selector"]["matchLabels"] for budget in of_kind(resources, "PodDisruptionBudget")]
    for selector in selectors:
        assert selector.items() <= labels.items(), f"{selector} selects no gateway"
    for template in [gateways["spec"]["template"], job["spec"]["template"]]:
        pod = template["spec"]
        assert pod["serviceAccountName"] in accounts
        claims = [claim["metadata"]["name"] for claim in gateways["spec"]["volumeClaimTemplates"]]
        volumes = [volume["name"] for volume in pod["volumes"]] + claims
        assert all(volume["configMap"]["name"] in configurations for volume in pod["volumes"])
        for container in pod["containers"]:
            assert container["image"] in [image["name"] for image in kustomization["images"]]
            assert all(mount["name"] in volumes for mount in container["volumeMounts"])
            assert container["securityContext"]["readOnlyRootFilesystem"]
    (scaler,) = of_kind(resources, "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == gateways["metadata"]["name"]
    (container,) = gateways["spec"]["template"]["spec"]["containers"]
    ports = [port["name"] for port in container["ports"]]
    for service in services.values():
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"])
    (monitor,) = of_kind(kustomized(folder / "monitoring"), "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (monitored,) = [s for s in services.values() if wanted <= s["metadata"].get("labels", {}).items()]
    named = [port["name"] for port in monitored["spec"]["ports"]]
    assert all(endpoint["port"] in named for endpoint in monitor["spec"]["endpoints"])


def main(folder):
    resources = list(kustomized(folder))
    assert len(resources) > 8, resources
    for path, resource in resources:
        try:
            validate(path, resource)
        except kubernetes_validate.ValidationError as error:
            sys.exit(f"{path.name}: {error.message}, at {list(error.path)}")
    check_names(resources, folder)


main(Path(sys.argv[1]))
