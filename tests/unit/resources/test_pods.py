import pytest

from moorage_operator.resources.pods import SERVER_NEEDS, build_image, build_resources
from moorage_operator.spec.parts import ResourceList, Resources


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("registry.example:5000/moorage:1", "IfNotPresent"),
        ("moorage@sha256:0", "IfNotPresent"),
        ("moorage:latest", "Always"),
        ("registry.example:5000/moorage", "Always"),
    ],
)
def test_an_image_whose_name_may_come_to_mean_another_is_pulled_each_time(image: str, policy: str):
    assert build_image(image) == {"image": image, "imagePullPolicy": policy}


@pytest.mark.parametrize(
    ("requests", "limits", "built"),
    [
        ({}, {}, {"requests": SERVER_NEEDS}),
        ({"cpu": "2"}, {}, {"requests": {"cpu": "2", "memory": SERVER_NEEDS["memory"]}}),
        # A request above its limit would be refused.
        (
            {},
            {"memory": "64Mi"},
            {"requests": {"cpu": SERVER_NEEDS["cpu"]}, "limits": {"memory": "64Mi"}},
        ),
        ({}, {"cpu": "1", "memory": "1Gi"}, {"limits": {"cpu": "1", "memory": "1Gi"}}),
        (
            {"memory": "32Mi"},
            {"memory": "64Mi"},
            {"requests": {"cpu": SERVER_NEEDS["cpu"], "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
        ),
    ],
)
def test_a_container_asks_for_what_an_idle_one_needs_unless_somebody_says_otherwise(requests, limits, built):
    said = Resources(requests=ResourceList(**requests), limits=ResourceList(**limits))
    assert build_resources(said, SERVER_NEEDS) == built
