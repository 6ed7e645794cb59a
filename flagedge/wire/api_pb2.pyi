import datetime

from flagedge.wire import types_pb2 as _types_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResolveFlagsRequest(_message.Message):
    __slots__ = ("flags", "evaluation_context", "client_secret", "apply", "sdk")
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_SECRET_FIELD_NUMBER: _ClassVar[int]
    APPLY_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    flags: _containers.RepeatedScalarFieldContainer[str]
    evaluation_context: _struct_pb2.Struct
    client_secret: str
    apply: bool
    sdk: _types_pb2.Sdk
    def __init__(self, flags: _Optional[_Iterable[str]] = ..., evaluation_context: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., client_secret: _Optional[str] = ..., apply: bool = ..., sdk: _Optional[_Union[_types_pb2.Sdk, _Mapping]] = ...) -> None: ...

class ResolveFlagsResponse(_message.Message):
    __slots__ = ("resolved_flags", "resolve_token", "resolve_id")
    RESOLVED_FLAGS_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_ID_FIELD_NUMBER: _ClassVar[int]
    resolved_flags: _containers.RepeatedCompositeFieldContainer[ResolvedFlag]
    resolve_token: bytes
    resolve_id: str
    def __init__(self, resolved_flags: _Optional[_Iterable[_Union[ResolvedFlag, _Mapping]]] = ..., resolve_token: _Optional[bytes] = ..., resolve_id: _Optional[str] = ...) -> None: ...

class ResolvedFlag(_message.Message):
    __slots__ = ("flag", "variant", "value", "flag_schema", "reason", "should_apply", "assignment_origin")
    FLAG_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FLAG_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SHOULD_APPLY_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_ORIGIN_FIELD_NUMBER: _ClassVar[int]
    flag: str
    variant: str
    value: _struct_pb2.Struct
    flag_schema: _types_pb2.StructFlagSchema
    reason: _types_pb2.ResolveReason
    should_apply: bool
    assignment_origin: str
    def __init__(self, flag: _Optional[str] = ..., variant: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., flag_schema: _Optional[_Union[_types_pb2.StructFlagSchema, _Mapping]] = ..., reason: _Optional[_Union[_types_pb2.ResolveReason, str]] = ..., should_apply: bool = ..., assignment_origin: _Optional[str] = ...) -> None: ...

class ApplyFlagsRequest(_message.Message):
    __slots__ = ("flags", "client_secret", "resolve_token", "send_time", "sdk")
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_SECRET_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SEND_TIME_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    flags: _containers.RepeatedCompositeFieldContainer[FlagToApply]
    client_secret: str
    resolve_token: bytes
    send_time: _timestamp_pb2.Timestamp
    sdk: _types_pb2.Sdk
    def __init__(self, flags: _Optional[_Iterable[_Union[FlagToApply, _Mapping]]] = ..., client_secret: _Optional[str] = ..., resolve_token: _Optional[bytes] = ..., send_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sdk: _Optional[_Union[_types_pb2.Sdk, _Mapping]] = ...) -> None: ...

class FlagToApply(_message.Message):
    __slots__ = ("flag", "apply_time")
    FLAG_FIELD_NUMBER: _ClassVar[int]
    APPLY_TIME_FIELD_NUMBER: _ClassVar[int]
    flag: str
    apply_time: _timestamp_pb2.Timestamp
    def __init__(self, flag: _Optional[str] = ..., apply_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ApplyFlagsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
