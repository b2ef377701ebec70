import pytest

from moorage_operator.resources.pods import build_image


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
