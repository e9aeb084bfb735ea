"""Where a training runs: the devices of this process, or of several hosts; and repeating it."""

import functools

import keras
import tensorflow as tf

from fcis_tf.training.distributed.hosts import addresses


def choose_strategy() -> tf.distribute.Strategy:
    """All visible devices, together with those of the other hosts that ``TF_CONFIG`` names.

    With other hosts it must come before anything else of TensorFlow, and waits for all of them.

    Raises:
        FcisError: ``TF_CONFIG`` is not what TensorFlow expects.
    """
    workers = addresses()
    if len(workers) < 2:
        return mirrored_strategy()
    print(f"hosts    waiting for {', '.join(workers)}", flush=True)
    return tf.distribute.MultiWorkerMirroredStrategy()


def mirrored_strategy(*devices: str) -> tf.distribute.Strategy:
    """The one strategy of this process over some devices, by default over all visible ones.

    TensorFlow numbers the collective operations of every strategy from the same start, and refuses
    a number it has seen with another shape: a second strategy over the same devices fails.
    """
    visible = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    specs = map(tf.DeviceSpec.from_string, devices or [device.name for device in visible])
    return _mirrored_strategy(tuple(f"/{spec.device_type}:{spec.device_index}" for spec in specs))


@functools.cache
def _mirrored_strategy(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(devices)


def fix_randomness(seed: int, *, deterministic: bool) -> None:
    """Seed all generators; with `deterministic`, every operation gives the same bits each time.

    The latter holds for the whole process from here on, and costs speed on a GPU.
    """
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
