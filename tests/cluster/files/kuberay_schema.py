"""KubeRay's RayCluster and RayJob as its reference for 1.6 documents them: fields, types, choices, rules.

KubeRay's own definitions come with its operator and in no package that a test could install. Pods within are left to
Kubernetes' schema.
"""

from __future__ import annotations

from typing import Any

POD: dict[str, Any] = {"type": "object", "required": ["spec"]}
TEXT, WHOLE, YES_OR_NO = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
AMOUNT = {"type": "number", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
ANY_OBJECT, ANY_LIST = {"type": "object"}, {"type": "array"}


def one_of(*choices: str) -> dict[str, Any]:
    return {"enum": list(choices)}


def fields(required: tuple[str, ...] = (), **known: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": known, "required": list(required), "additionalProperties": False}


MANAGER = one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue")
GROUP = {"rayStartParams": TEXTS, "template": POD, "resources": TEXTS, "labels": TEXTS}
RAY_CLUSTER = fields(
    ("headGroupSpec", "rayVersion"),  # the version is needed where authOptions.mode is token
    authOptions=fields(mode=one_of("disabled", "token"), secretName=TEXT, enableK8sTokenAuth=YES_OR_NO),
    autoscalerOptions=fields(
        resources=ANY_OBJECT,
        image=TEXT,
        imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
        securityContext=ANY_OBJECT,
        idleTimeoutSeconds=WHOLE,
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        version=one_of("v1", "v2"),
        env=ANY_LIST,
        envFrom=ANY_LIST,
        volumeMounts=ANY_LIST,
    ),
    enableInTreeAutoscaling=YES_OR_NO,
    gcsFaultToleranceOptions=ANY_OBJECT,
    headGroupSpec=fields(
        ("template",),
        **GROUP,
        headService=ANY_OBJECT,
        enableIngress=YES_OR_NO,
        serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
    ),
    headServiceAnnotations=TEXTS,
    managedBy=MANAGER,
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    suspend=YES_OR_NO,
    upgradeStrategy=fields(type=one_of("Recreate", "None")),
    workerGroupSpecs={
        "type": "array",
        "items": fields(
            ("groupName", "template"),
            **GROUP,
            groupName=TEXT,
            replicas=WHOLE,
            minReplicas=WHOLE,
            maxReplicas=WHOLE,
            idleTimeoutSeconds=WHOLE,
            numOfHosts=WHOLE,
            scaleStrategy=ANY_OBJECT,
            suspend=YES_OR_NO,
        ),
    },
)
RAY_JOB = fields(
    ("entrypoint",),
    activeDeadlineSeconds=WHOLE,
    backoffLimit=WHOLE,
    rayClusterSpec=RAY_CLUSTER,
    submitterPodTemplate=POD,
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=fields(backoffLimit=WHOLE),
    managedBy=MANAGER,
    deletionStrategy=ANY_OBJECT,
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypointResources=TEXT,
    entrypointNumCpus=AMOUNT,
    entrypointNumGpus=AMOUNT,
    ttlSecondsAfterFinished=WHOLE,
    preRunningDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=YES_OR_NO,
    suspend=YES_OR_NO,
) | {
    "dependentSchemas": {
        "ttlSecondsAfterFinished": {
            "properties": {"shutdownAfterJobFinishes": {"const": True}}, "required": ["shutdownAfterJobFinishes"]
        }
    }
}  # fmt: skip
