"""The network as TensorBoard's GRAPHS tab reads it: TensorFlow's GraphDef."""

from collections.abc import Sequence

from tensorboardX.proto.attr_value_pb2 import AttrValue
from tensorboardX.proto.graph_pb2 import GraphDef
from tensorboardX.proto.node_def_pb2 import NodeDef
from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboardX.proto.versions_pb2 import VersionDef

from ssd.tracking.graph_nodes import GraphNode

SHAPES = "_output_shapes"  # where TensorBoard looks for what it writes beside the edges


def graph_def(nodes: Sequence[GraphNode]) -> bytes:
    """Serialised GraphDef: names, operators, edges, attributes, and the shape of every output."""
    return GraphDef(node=[_node(node) for node in nodes], versions=VersionDef(producer=22)).SerializeToString()


def _node(node: GraphNode) -> NodeDef:
    attributes = {name: AttrValue(s=value.encode()) for name, value in node.attributes.items()}
    shapes = [TensorShapeProto(dim=[TensorShapeProto.Dim(size=side) for side in shape]) for shape in node.shapes]
    attributes[SHAPES] = AttrValue(list=AttrValue.ListValue(shape=shapes))
    return NodeDef(name=node.name, op=node.operator, input=node.inputs, attr=attributes)
