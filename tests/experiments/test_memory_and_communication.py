"""Reading collective operations from HLO text, and the model of scaling."""

import pytest

from experiments.memory_and_communication.programs import collectives
from experiments.memory_and_communication.scaling import sent

# Lines as the compilers print them, metadata cut.
HLO = """
  %all-reduce = f32[1024,1024]{1,0:T(8,128)S(1)} all-reduce(%fusion), channel_id=1, replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}, use_global_device_ids=true, to_apply=%add
  %ar = (bf16[10]{0}, f32[]) all-reduce-start(%a, %b), replica_groups={{0,1},{2,3}}, to_apply=%add
  %done = (bf16[10]{0}, f32[]) all-reduce-done(%ar)
  %turned = f32[3] all-reduce(%c), replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([4,2]T(1,0)) {'axis_1'}, to_apply=%add
  %ag = (f32[2,8]{1,0}, f32[16,8]{1,0}) all-gather-start(%x), replica_groups=[1,8]<=[8], dimensions={0}
  %rs = f32[4,8]{1,0} reduce-scatter(%y), replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add
  %fusion = f32[8] fusion(%all-reduce), kind=kLoop
"""  # noqa: E501


def test_every_collective_operation_is_counted_once():
    assert collectives(HLO) == [
        {"kind": "all-reduce", "dtype": "f32", "group": 4, "bytes": 4 * 1024 * 1024},
        {"kind": "all-reduce", "dtype": "bf16", "group": 2, "bytes": 20},
        {"kind": "all-reduce", "dtype": "f32", "group": 2, "bytes": 4},
        {"kind": "all-reduce", "dtype": "f32", "group": 4, "bytes": 12},
        {"kind": "all-gather", "dtype": "f32", "group": 8, "bytes": 4 * 16 * 8},
        {"kind": "reduce-scatter", "dtype": "f32", "group": 4, "bytes": 4 * 4 * 8 * 4},
    ]


@pytest.mark.parametrize(
    ("kind", "expected"), [("all-reduce", 150), ("all-gather", 75), ("reduce-scatter", 75)]
)
def test_bytes_sent_in_a_ring(kind, expected):
    assert sent({"kind": kind, "group": 4, "bytes": 100}) == expected
