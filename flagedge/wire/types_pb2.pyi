from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SdkId(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SDK_ID_UNSPECIFIED: _ClassVar[SdkId]
    SDK_ID_JAVA_PROVIDER: _ClassVar[SdkId]
    SDK_ID_KOTLIN_PROVIDER: _ClassVar[SdkId]
    SDK_ID_SWIFT_PROVIDER: _ClassVar[SdkId]
    SDK_ID_JS_WEB_PROVIDER: _ClassVar[SdkId]
    SDK_ID_JS_SERVER_PROVIDER: _ClassVar[SdkId]
    SDK_ID_PYTHON_PROVIDER: _ClassVar[SdkId]
    SDK_ID_GO_PROVIDER: _ClassVar[SdkId]
    SDK_ID_RUBY_PROVIDER: _ClassVar[SdkId]
    SDK_ID_RUST_PROVIDER: _ClassVar[SdkId]
    SDK_ID_JAVA_CONFIDENCE: _ClassVar[SdkId]
    SDK_ID_KOTLIN_CONFIDENCE: _ClassVar[SdkId]
    SDK_ID_SWIFT_CONFIDENCE: _ClassVar[SdkId]
    SDK_ID_JS_CONFIDENCE: _ClassVar[SdkId]
    SDK_ID_PYTHON_CONFIDENCE: _ClassVar[SdkId]
    SDK_ID_GO_CONFIDENCE: _ClassVar[SdkId]
    SDK_ID_RUST_CONFIDENCE: _ClassVar[SdkId]
    SDK_ID_FLUTTER_IOS_CONFIDENCE: _ClassVar[SdkId]
    SDK_ID_FLUTTER_ANDROID_CONFIDENCE: _ClassVar[SdkId]
    SDK_ID_DOTNET_CONFIDENCE: _ClassVar[SdkId]
    SDK_ID_GO_LOCAL_PROVIDER: _ClassVar[SdkId]
    SDK_ID_JAVA_LOCAL_PROVIDER: _ClassVar[SdkId]
    SDK_ID_JS_LOCAL_SERVER_PROVIDER: _ClassVar[SdkId]
    SDK_ID_PYTHON_LOCAL_PROVIDER: _ClassVar[SdkId]
    SDK_ID_RUST_LOCAL_PROVIDER: _ClassVar[SdkId]
    SDK_ID_CLOUDFLARE_RESOLVER: _ClassVar[SdkId]

class ResolveReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESOLVE_REASON_UNSPECIFIED: _ClassVar[ResolveReason]
    RESOLVE_REASON_MATCH: _ClassVar[ResolveReason]
    RESOLVE_REASON_NO_SEGMENT_MATCH: _ClassVar[ResolveReason]
    RESOLVE_REASON_NO_TREATMENT_MATCH: _ClassVar[ResolveReason]
    RESOLVE_REASON_FLAG_ARCHIVED: _ClassVar[ResolveReason]
    RESOLVE_REASON_TARGETING_KEY_ERROR: _ClassVar[ResolveReason]
    RESOLVE_REASON_ERROR: _ClassVar[ResolveReason]
    RESOLVE_REASON_UNRECOGNIZED_TARGETING_RULE: _ClassVar[ResolveReason]
    RESOLVE_REASON_MATERIALIZATION_NOT_SUPPORTED: _ClassVar[ResolveReason]
    RESOLVE_REASON_TYPE_MISMATCH: _ClassVar[ResolveReason]
    RESOLVE_REASON_FLAG_NOT_FOUND: _ClassVar[ResolveReason]
    RESOLVE_REASON_BUNDLE: _ClassVar[ResolveReason]
SDK_ID_UNSPECIFIED: SdkId
SDK_ID_JAVA_PROVIDER: SdkId
SDK_ID_KOTLIN_PROVIDER: SdkId
SDK_ID_SWIFT_PROVIDER: SdkId
SDK_ID_JS_WEB_PROVIDER: SdkId
SDK_ID_JS_SERVER_PROVIDER: SdkId
SDK_ID_PYTHON_PROVIDER: SdkId
SDK_ID_GO_PROVIDER: SdkId
SDK_ID_RUBY_PROVIDER: SdkId
SDK_ID_RUST_PROVIDER: SdkId
SDK_ID_JAVA_CONFIDENCE: SdkId
SDK_ID_KOTLIN_CONFIDENCE: SdkId
SDK_ID_SWIFT_CONFIDENCE: SdkId
SDK_ID_JS_CONFIDENCE: SdkId
SDK_ID_PYTHON_CONFIDENCE: SdkId
SDK_ID_GO_CONFIDENCE: SdkId
SDK_ID_RUST_CONFIDENCE: SdkId
SDK_ID_FLUTTER_IOS_CONFIDENCE: SdkId
SDK_ID_FLUTTER_ANDROID_CONFIDENCE: SdkId
SDK_ID_DOTNET_CONFIDENCE: SdkId
SDK_ID_GO_LOCAL_PROVIDER: SdkId
SDK_ID_JAVA_LOCAL_PROVIDER: SdkId
SDK_ID_JS_LOCAL_SERVER_PROVIDER: SdkId
SDK_ID_PYTHON_LOCAL_PROVIDER: SdkId
SDK_ID_RUST_LOCAL_PROVIDER: SdkId
SDK_ID_CLOUDFLARE_RESOLVER: SdkId
RESOLVE_REASON_UNSPECIFIED: ResolveReason
RESOLVE_REASON_MATCH: ResolveReason
RESOLVE_REASON_NO_SEGMENT_MATCH: ResolveReason
RESOLVE_REASON_NO_TREATMENT_MATCH: ResolveReason
RESOLVE_REASON_FLAG_ARCHIVED: ResolveReason
RESOLVE_REASON_TARGETING_KEY_ERROR: ResolveReason
RESOLVE_REASON_ERROR: ResolveReason
RESOLVE_REASON_UNRECOGNIZED_TARGETING_RULE: ResolveReason
RESOLVE_REASON_MATERIALIZATION_NOT_SUPPORTED: ResolveReason
RESOLVE_REASON_TYPE_MISMATCH: ResolveReason
RESOLVE_REASON_FLAG_NOT_FOUND: ResolveReason
RESOLVE_REASON_BUNDLE: ResolveReason

class FlagSchema(_message.Message):
    __slots__ = ("struct_schema", "list_schema", "int_schema", "double_schema", "string_schema", "bool_schema")
    STRUCT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    LIST_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    INT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    STRING_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    BOOL_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    struct_schema: StructFlagSchema
    list_schema: ListFlagSchema
    int_schema: IntFlagSchema
    double_schema: DoubleFlagSchema
    string_schema: StringFlagSchema
    bool_schema: BoolFlagSchema
    def __init__(self, struct_schema: _Optional[_Union[StructFlagSchema, _Mapping]] = ..., list_schema: _Optional[_Union[ListFlagSchema, _Mapping]] = ..., int_schema: _Optional[_Union[IntFlagSchema, _Mapping]] = ..., double_schema: _Optional[_Union[DoubleFlagSchema, _Mapping]] = ..., string_schema: _Optional[_Union[StringFlagSchema, _Mapping]] = ..., bool_schema: _Optional[_Union[BoolFlagSchema, _Mapping]] = ...) -> None: ...

class StructFlagSchema(_message.Message):
    __slots__ = ("schema",)
    class SchemaEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: FlagSchema
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FlagSchema, _Mapping]] = ...) -> None: ...
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    schema: _containers.MessageMap[str, FlagSchema]
    def __init__(self, schema: _Optional[_Mapping[str, FlagSchema]] = ...) -> None: ...

class ListFlagSchema(_message.Message):
    __slots__ = ("element_schema",)
    ELEMENT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    element_schema: FlagSchema
    def __init__(self, element_schema: _Optional[_Union[FlagSchema, _Mapping]] = ...) -> None: ...

class IntFlagSchema(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DoubleFlagSchema(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StringFlagSchema(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BoolFlagSchema(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Sdk(_message.Message):
    __slots__ = ("id", "custom_id", "version")
    ID_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    id: SdkId
    custom_id: str
    version: str
    def __init__(self, id: _Optional[_Union[SdkId, str]] = ..., custom_id: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class FallthroughAssignment(_message.Message):
    __slots__ = ("rule", "assignment_id", "targeting_key", "targeting_key_selector")
    RULE_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_ID_FIELD_NUMBER: _ClassVar[int]
    TARGETING_KEY_FIELD_NUMBER: _ClassVar[int]
    TARGETING_KEY_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    rule: str
    assignment_id: str
    targeting_key: str
    targeting_key_selector: str
    def __init__(self, rule: _Optional[str] = ..., assignment_id: _Optional[str] = ..., targeting_key: _Optional[str] = ..., targeting_key_selector: _Optional[str] = ...) -> None: ...
