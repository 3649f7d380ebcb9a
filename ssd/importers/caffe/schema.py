"""The parts of Caffe's network descriptions that a converter needs, as protobuf messages.

PROTO is written in protobuf's own language (the subset that `_messages` below reads) after Caffe's published format:
names, numbers and defaults are those of its files, including the layers that SSD added. Built at run time, because
generated code is bound to one version of the protobuf runtime.
"""

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "ssd.caffe"

PROTO = """
message NetParameter {
  optional string name = 1;  repeated V1LayerParameter layers = 2;
  repeated string input = 3;  repeated int32 input_dim = 4;  repeated BlobShape input_shape = 8;
  optional bool force_backward = 5;  optional NetState state = 6;  optional bool debug_info = 7;
  repeated LayerParameter layer = 100;
}
message BlobShape { repeated int64 dim = 1; }
message NetState {
  enum Phase { TRAIN = 0; TEST = 1; }
  optional Phase phase = 1 [default = TEST];  optional int32 level = 2;  repeated string stage = 3;
}
message NetStateRule {
  enum Phase { TRAIN = 0; TEST = 1; }
  optional Phase phase = 1;  optional int32 min_level = 2;  optional int32 max_level = 3;
  repeated string stage = 4;  repeated string not_stage = 5;
}
message ParamSpec {
  enum Mode { STRICT = 0; PERMISSIVE = 1; }
  optional string name = 1;  optional Mode share_mode = 2;  optional float lr_mult = 3;  optional float decay_mult = 4;
}
message FillerParameter {
  enum Norm { FAN_IN = 0; FAN_OUT = 1; AVERAGE = 2; }
  optional string type = 1;  optional float value = 2;  optional float min = 3;  optional float max = 4;
  optional float mean = 5;  optional float std = 6;  optional int32 sparse = 7;  optional Norm variance_norm = 8;
}
message LayerParameter {
  enum Phase { TRAIN = 0; TEST = 1; }
  optional string name = 1;  optional string type = 2;  repeated string bottom = 3;  repeated string top = 4;
  repeated float loss_weight = 5;  repeated ParamSpec param = 6;  repeated NetStateRule include = 8;
  repeated NetStateRule exclude = 9;  optional Phase phase = 10;  repeated bool propagate_down = 11;
  optional ConcatParameter concat_param = 104;  optional ConvolutionParameter convolution_param = 106;
  optional DropoutParameter dropout_param = 108;  optional EltwiseParameter eltwise_param = 110;
  optional InnerProductParameter inner_product_param = 117;  optional LRNParameter lrn_param = 118;
  optional PoolingParameter pooling_param = 121;  optional PowerParameter power_param = 122;
  optional ReLUParameter relu_param = 123;  optional SigmoidParameter sigmoid_param = 124;
  optional SoftmaxParameter softmax_param = 125;  optional SliceParameter slice_param = 126;
  optional TanHParameter tanh_param = 127;  optional PReLUParameter prelu_param = 131;
  optional ReshapeParameter reshape_param = 133;  optional FlattenParameter flatten_param = 135;
  optional BatchNormParameter batch_norm_param = 139;  optional ELUParameter elu_param = 140;
  optional BiasParameter bias_param = 141;  optional ScaleParameter scale_param = 142;
  optional InputParameter input_param = 143;  optional CropParameter crop_param = 144;
  optional PermuteParameter permute_param = 202;  optional PriorBoxParameter prior_box_param = 203;
  optional DetectionOutputParameter detection_output_param = 204;  optional NormalizeParameter norm_param = 206;
}
message V1LayerParameter {
  enum LayerType {
    NONE = 0; ACCURACY = 1; BNLL = 2; CONCAT = 3; CONVOLUTION = 4; DATA = 5; DROPOUT = 6; EUCLIDEAN_LOSS = 7;
    FLATTEN = 8; HDF5_DATA = 9; HDF5_OUTPUT = 10; IM2COL = 11; IMAGE_DATA = 12; INFOGAIN_LOSS = 13; INNER_PRODUCT = 14;
    LRN = 15; MULTINOMIAL_LOGISTIC_LOSS = 16; POOLING = 17; RELU = 18; SIGMOID = 19; SOFTMAX = 20; SOFTMAX_LOSS = 21;
    SPLIT = 22; TANH = 23; WINDOW_DATA = 24; ELTWISE = 25; POWER = 26; SIGMOID_CROSS_ENTROPY_LOSS = 27;
    HINGE_LOSS = 28; MEMORY_DATA = 29; ARGMAX = 30; THRESHOLD = 31; DUMMY_DATA = 32; SLICE = 33; MVN = 34; ABSVAL = 35;
    SILENCE = 36; CONTRASTIVE_LOSS = 37; EXP = 38; DECONVOLUTION = 39;
  }
  repeated string bottom = 2;  repeated string top = 3;  optional string name = 4;  optional LayerType type = 5;
  repeated float blobs_lr = 7;  repeated float weight_decay = 8;  repeated float loss_weight = 35;
  repeated NetStateRule include = 32;  repeated NetStateRule exclude = 33;  repeated string param = 1001;
  optional ConcatParameter concat_param = 9;  optional ConvolutionParameter convolution_param = 10;
  optional DropoutParameter dropout_param = 12;  optional InnerProductParameter inner_product_param = 17;
  optional LRNParameter lrn_param = 18;  optional PoolingParameter pooling_param = 19;
  optional PowerParameter power_param = 21;  optional EltwiseParameter eltwise_param = 24;
  optional ReLUParameter relu_param = 30;  optional SliceParameter slice_param = 31;
  optional TanHParameter tanh_param = 37;  optional SigmoidParameter sigmoid_param = 38;
  optional SoftmaxParameter softmax_param = 39;
}
message ConvolutionParameter {
  enum Engine { DEFAULT = 0; CAFFE = 1; CUDNN = 2; }
  optional uint32 num_output = 1;  optional bool bias_term = 2 [default = true];  repeated uint32 pad = 3;
  repeated uint32 kernel_size = 4;  optional uint32 group = 5 [default = 1];  repeated uint32 stride = 6;
  optional FillerParameter weight_filler = 7;  optional FillerParameter bias_filler = 8;
  optional uint32 pad_h = 9;  optional uint32 pad_w = 10;  optional uint32 kernel_h = 11;
  optional uint32 kernel_w = 12;  optional uint32 stride_h = 13;  optional uint32 stride_w = 14;
  optional Engine engine = 15;  optional int32 axis = 16 [default = 1];  optional bool force_nd_im2col = 17;
  repeated uint32 dilation = 18;
}
message PoolingParameter {
  enum PoolMethod { MAX = 0; AVE = 1; STOCHASTIC = 2; }
  enum Engine { DEFAULT = 0; CAFFE = 1; CUDNN = 2; }
  enum RoundMode { CEIL = 0; FLOOR = 1; }
  optional PoolMethod pool = 1;  optional uint32 kernel_size = 2;  optional uint32 stride = 3 [default = 1];
  optional uint32 pad = 4;  optional uint32 kernel_h = 5;  optional uint32 kernel_w = 6;  optional uint32 stride_h = 7;
  optional uint32 stride_w = 8;  optional uint32 pad_h = 9;  optional uint32 pad_w = 10;  optional Engine engine = 11;
  optional bool global_pooling = 12;  optional RoundMode round_mode = 13;
  optional bool ceil_mode = 1000 [default = true];
}
message InnerProductParameter {
  optional uint32 num_output = 1;  optional bool bias_term = 2 [default = true];
  optional FillerParameter weight_filler = 3;  optional FillerParameter bias_filler = 4;
  optional int32 axis = 5 [default = 1];  optional bool transpose = 6;
}
message LRNParameter {
  enum NormRegion { ACROSS_CHANNELS = 0; WITHIN_CHANNEL = 1; }
  enum Engine { DEFAULT = 0; CAFFE = 1; CUDNN = 2; }
  optional uint32 local_size = 1 [default = 5];  optional float alpha = 2 [default = 1];
  optional float beta = 3 [default = 0.75];  optional NormRegion norm_region = 4;  optional float k = 5 [default = 1];
  optional Engine engine = 6;
}
message EltwiseParameter {
  enum EltwiseOp { PROD = 0; SUM = 1; MAX = 2; }
  optional EltwiseOp operation = 1 [default = SUM];  repeated float coeff = 2;
  optional bool stable_prod_grad = 3 [default = true];
}
message SoftmaxParameter {
  enum Engine { DEFAULT = 0; CAFFE = 1; CUDNN = 2; }
  optional Engine engine = 1;  optional int32 axis = 2 [default = 1];
}
message ReLUParameter {
  enum Engine { DEFAULT = 0; CAFFE = 1; CUDNN = 2; }
  optional float negative_slope = 1;  optional Engine engine = 2;
}
message SigmoidParameter { enum Engine { DEFAULT = 0; CAFFE = 1; CUDNN = 2; }  optional Engine engine = 1; }
message TanHParameter { enum Engine { DEFAULT = 0; CAFFE = 1; CUDNN = 2; }  optional Engine engine = 1; }
message ConcatParameter { optional uint32 concat_dim = 1 [default = 1];  optional int32 axis = 2 [default = 1]; }
message SliceParameter {
  optional uint32 slice_dim = 1 [default = 1];  repeated uint32 slice_point = 2;  optional int32 axis = 3 [default = 1];
}
message DropoutParameter { optional float dropout_ratio = 1;  optional bool scale_train = 2 [default = true]; }
message PowerParameter {
  optional float power = 1 [default = 1];  optional float scale = 2 [default = 1];  optional float shift = 3;
}
message ELUParameter { optional float alpha = 1 [default = 1]; }
message PReLUParameter { optional FillerParameter filler = 1;  optional bool channel_shared = 2; }
message BatchNormParameter {
  optional bool use_global_stats = 1;  optional float moving_average_fraction = 2;
  optional float eps = 3 [default = 1e-5];
}
message ScaleParameter {
  optional int32 axis = 1 [default = 1];  optional int32 num_axes = 2 [default = 1];
  optional FillerParameter filler = 3;  optional bool bias_term = 4;  optional FillerParameter bias_filler = 5;
}
message BiasParameter {
  optional int32 axis = 1 [default = 1];  optional int32 num_axes = 2 [default = 1];
  optional FillerParameter filler = 3;
}
message ReshapeParameter {
  optional BlobShape shape = 1;  optional int32 axis = 2;  optional int32 num_axes = 3 [default = -1];
}
message FlattenParameter { optional int32 axis = 1 [default = 1];  optional int32 end_axis = 2 [default = -1]; }
message InputParameter { repeated BlobShape shape = 1; }
message CropParameter { optional int32 axis = 1 [default = 2];  repeated uint32 offset = 2; }
message PermuteParameter { repeated uint32 order = 1; }
message NormalizeParameter {
  optional bool across_spatial = 1 [default = true];  optional FillerParameter scale_filler = 2;
  optional bool channel_shared = 3 [default = true];  optional float eps = 4 [default = 1e-10];
}
message PriorBoxParameter {
  enum CodeType { UNSET = 0; CORNER = 1; CENTER_SIZE = 2; CORNER_SIZE = 3; }
  repeated float min_size = 1;  repeated float max_size = 2;  repeated float aspect_ratio = 3;
  optional bool flip = 4 [default = true];  optional bool clip = 5;  repeated float variance = 6;
  optional uint32 img_size = 7;  optional uint32 img_h = 8;  optional uint32 img_w = 9;
  optional float step = 10;  optional float step_h = 11;  optional float step_w = 12;
  optional float offset = 13 [default = 0.5];
}
message NonMaximumSuppressionParameter {
  optional float nms_threshold = 1 [default = 0.3];  optional int32 top_k = 2 [default = -1];
  optional float eta = 3 [default = 1];
}
message SaveOutputParameter {
  optional string output_directory = 1;  optional string output_name_prefix = 2;  optional string output_format = 3;
  optional string label_map_file = 4;  optional string name_size_file = 5;  optional uint32 num_test_image = 6;
}
message DetectionOutputParameter {
  enum CodeType { UNSET = 0; CORNER = 1; CENTER_SIZE = 2; CORNER_SIZE = 3; }
  optional uint32 num_classes = 1;  optional bool share_location = 2 [default = true];
  optional int32 background_label_id = 3;  optional NonMaximumSuppressionParameter nms_param = 4;
  optional SaveOutputParameter save_output_param = 5;  optional CodeType code_type = 6 [default = CORNER];
  optional bool variance_encoded_in_target = 8;  optional int32 keep_top_k = 7 [default = -1];
  optional float confidence_threshold = 9;  optional bool visualize = 10;  optional float visualize_threshold = 11;
  optional string save_file = 12;  optional bool clip = 1000;
}
message LabelMapItem { optional string name = 1;  optional int32 label = 2;  optional string display_name = 3; }
message LabelMap { repeated LabelMapItem item = 1; }
"""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
}
_LABELS = {"optional": _Field.LABEL_OPTIONAL, "repeated": _Field.LABEL_REPEATED}
_MESSAGE = re.compile(r"^message (\w+) \{(.*?)(?=^message |\Z)", re.DOTALL | re.MULTILINE)
_ENUM = re.compile(r"enum (\w+) \{(.*?)\}", re.DOTALL)
_VALUE = re.compile(r"(\w+) = (\d+);")
_FIELD = re.compile(r"(optional|repeated) (\w+) (\w+) = (\d+)(?: \[default = ([^\]]+)\])?;")


def _messages() -> dict[str, Any]:
    """PROTO as classes, by name."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{PACKAGE}.proto", package=PACKAGE, syntax="proto2")
    for name, body in _MESSAGE.findall(PROTO):
        message = file.message_type.add(name=name)
        enums = dict(_ENUM.findall(body))
        for enum, values in enums.items():
            kind = message.enum_type.add(name=enum)
            for value, number in _VALUE.findall(values):
                kind.value.add(name=value, number=int(number))
        for label, kind, field, number, default in _FIELD.findall(_ENUM.sub("", body)):
            entry = message.field.add(name=field, number=int(number), label=_LABELS[label])
            if kind in _SCALARS:
                entry.type = _SCALARS[kind]
            else:
                entry.type = _Field.TYPE_ENUM if kind in enums else _Field.TYPE_MESSAGE
                entry.type_name = f".{PACKAGE}.{name}.{kind}" if kind in enums else f".{PACKAGE}.{kind}"
            if default:
                entry.default_value = default
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [message.name for message in file.message_type]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in names}


MESSAGES = _messages()
