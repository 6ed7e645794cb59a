from flagedge.wire import types_pb2 as _types_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResolveToken(_message.Message):
    __slots__ = ("token_v1",)
    TOKEN_V1_FIELD_NUMBER: _ClassVar[int]
    token_v1: ResolveTokenV1
    def __init__(self, token_v1: _Optional[_Union[ResolveTokenV1, _Mapping]] = ...) -> None: ...

class ResolveTokenV1(_message.Message):
    __slots__ = ("evaluation_context", "assignments", "resolve_id", "account")
    class AssignmentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AssignedFlag
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AssignedFlag, _Mapping]] = ...) -> None: ...
    EVALUATION_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    evaluation_context: _struct_pb2.Struct
    assignments: _containers.MessageMap[str, AssignedFlag]
    resolve_id: str
    account: str
    def __init__(self, evaluation_context: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., assignments: _Optional[_Mapping[str, AssignedFlag]] = ..., resolve_id: _Optional[str] = ..., account: _Optional[str] = ...) -> None: ...

class AssignedFlag(_message.Message):
    __slots__ = ("flag", "targeting_key", "segment", "variant", "rule", "reason", "assignment_id", "fallthrough_assignments", "targeting_key_selector")
    FLAG_FIELD_NUMBER: _ClassVar[int]
    TARGETING_KEY_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_ID_FIELD_NUMBER: _ClassVar[int]
    FALLTHROUGH_ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    TARGETING_KEY_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    flag: str
    targeting_key: str
    segment: str
    variant: str
    rule: str
    reason: _types_pb2.ResolveReason
    assignment_id: str
    fallthrough_assignments: _containers.RepeatedCompositeFieldContainer[_types_pb2.FallthroughAssignment]
    targeting_key_selector: str
    def __init__(self, flag: _Optional[str] = ..., targeting_key: _Optional[str] = ..., segment: _Optional[str] = ..., variant: _Optional[str] = ..., rule: _Optional[str] = ..., reason: _Optional[_Union[_types_pb2.ResolveReason, str]] = ..., assignment_id: _Optional[str] = ..., fallthrough_assignments: _Optional[_Iterable[_Union[_types_pb2.FallthroughAssignment, _Mapping]]] = ..., targeting_key_selector: _Optional[str] = ...) -> None: ...
