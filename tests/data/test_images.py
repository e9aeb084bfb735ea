import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.data.decode import check_decodable, decode_image
from tests.fixtures import encode_image


def accepts(function, encoded):
    try:
        function(encoded)
    except tf.errors.InvalidArgumentError:
        return False
    return True


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"exif": b"Exif\0\0" + bytes(99)}],
    ids=["baseline", "progressive", "restarts", "exif"],
)
def test_a_damaged_jpeg_is_accepted_if_and_only_if_it_decodes(rng, options):
    pixels = np.repeat(np.repeat(rng.integers(0, 256, (9, 12, 3), np.uint8), 8, 0), 8, 1)
    whole = encode_image(pixels, "JPEG", **options)
    assert accepts(check_decodable, whole)
    outcomes = []
    for number in range(150):
        damaged = bytearray(whole)
        if number % 3 == 0:
            del damaged[rng.integers(len(damaged)) :]
        elif number % 3 == 1:
            damaged[rng.integers(len(damaged))] = rng.choice([0, 255, rng.integers(256)])
        else:
            place = rng.integers(len(damaged) - 1)
            damaged[place : place + 2] = bytes([255, rng.integers(1, 256)])
        decodes = accepts(decode_image, bytes(damaged))
        outcomes.append(decodes)
        assert accepts(check_decodable, bytes(damaged)) == decodes, (number, bytes(damaged))
    assert 10 < sum(outcomes) < 140
