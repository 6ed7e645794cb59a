import datetime

from flagedge.wire import types_pb2 as _types_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WriteFlagLogsRequest(_message.Message):
    __slots__ = ("flag_assigned", "telemetry_data", "client_resolve_info", "flag_resolve_info")
    FLAG_ASSIGNED_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_DATA_FIELD_NUMBER: _ClassVar[int]
    CLIENT_RESOLVE_INFO_FIELD_NUMBER: _ClassVar[int]
    FLAG_RESOLVE_INFO_FIELD_NUMBER: _ClassVar[int]
    flag_assigned: _containers.RepeatedCompositeFieldContainer[FlagAssigned]
    telemetry_data: TelemetryData
    client_resolve_info: _containers.RepeatedCompositeFieldContainer[ClientResolveInfo]
    flag_resolve_info: _containers.RepeatedCompositeFieldContainer[FlagResolveInfo]
    def __init__(self, flag_assigned: _Optional[_Iterable[_Union[FlagAssigned, _Mapping]]] = ..., telemetry_data: _Optional[_Union[TelemetryData, _Mapping]] = ..., client_resolve_info: _Optional[_Iterable[_Union[ClientResolveInfo, _Mapping]]] = ..., flag_resolve_info: _Optional[_Iterable[_Union[FlagResolveInfo, _Mapping]]] = ...) -> None: ...

class IngestFlagLogsRequest(_message.Message):
    __slots__ = ("account_id", "batch")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    batch: bytes
    def __init__(self, account_id: _Optional[str] = ..., batch: _Optional[bytes] = ...) -> None: ...

class ClientInfo(_message.Message):
    __slots__ = ("client", "client_credential", "sdk")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    client: str
    client_credential: str
    sdk: _types_pb2.Sdk
    def __init__(self, client: _Optional[str] = ..., client_credential: _Optional[str] = ..., sdk: _Optional[_Union[_types_pb2.Sdk, _Mapping]] = ...) -> None: ...

class FlagAssigned(_message.Message):
    __slots__ = ("client_info", "resolve_id", "flags")
    class DefaultAssignmentReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DEFAULT_ASSIGNMENT_REASON_UNSPECIFIED: _ClassVar[FlagAssigned.DefaultAssignmentReason]
        NO_SEGMENT_MATCH: _ClassVar[FlagAssigned.DefaultAssignmentReason]
        NO_TREATMENT_MATCH: _ClassVar[FlagAssigned.DefaultAssignmentReason]
        FLAG_ARCHIVED: _ClassVar[FlagAssigned.DefaultAssignmentReason]
    DEFAULT_ASSIGNMENT_REASON_UNSPECIFIED: FlagAssigned.DefaultAssignmentReason
    NO_SEGMENT_MATCH: FlagAssigned.DefaultAssignmentReason
    NO_TREATMENT_MATCH: FlagAssigned.DefaultAssignmentReason
    FLAG_ARCHIVED: FlagAssigned.DefaultAssignmentReason
    class AssignmentInfo(_message.Message):
        __slots__ = ("segment", "variant")
        SEGMENT_FIELD_NUMBER: _ClassVar[int]
        VARIANT_FIELD_NUMBER: _ClassVar[int]
        segment: str
        variant: str
        def __init__(self, segment: _Optional[str] = ..., variant: _Optional[str] = ...) -> None: ...
    class DefaultAssignment(_message.Message):
        __slots__ = ("reason",)
        REASON_FIELD_NUMBER: _ClassVar[int]
        reason: FlagAssigned.DefaultAssignmentReason
        def __init__(self, reason: _Optional[_Union[FlagAssigned.DefaultAssignmentReason, str]] = ...) -> None: ...
    class AppliedFlag(_message.Message):
        __slots__ = ("flag", "targeting_key", "targeting_key_selector", "assignment_info", "default_assignment", "assignment_id", "rule", "fallthrough_assignments", "apply_time")
        FLAG_FIELD_NUMBER: _ClassVar[int]
        TARGETING_KEY_FIELD_NUMBER: _ClassVar[int]
        TARGETING_KEY_SELECTOR_FIELD_NUMBER: _ClassVar[int]
        ASSIGNMENT_INFO_FIELD_NUMBER: _ClassVar[int]
        DEFAULT_ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
        ASSIGNMENT_ID_FIELD_NUMBER: _ClassVar[int]
        RULE_FIELD_NUMBER: _ClassVar[int]
        FALLTHROUGH_ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
        APPLY_TIME_FIELD_NUMBER: _ClassVar[int]
        flag: str
        targeting_key: str
        targeting_key_selector: str
        assignment_info: FlagAssigned.AssignmentInfo
        default_assignment: FlagAssigned.DefaultAssignment
        assignment_id: str
        rule: str
        fallthrough_assignments: _containers.RepeatedCompositeFieldContainer[_types_pb2.FallthroughAssignment]
        apply_time: _timestamp_pb2.Timestamp
        def __init__(self, flag: _Optional[str] = ..., targeting_key: _Optional[str] = ..., targeting_key_selector: _Optional[str] = ..., assignment_info: _Optional[_Union[FlagAssigned.AssignmentInfo, _Mapping]] = ..., default_assignment: _Optional[_Union[FlagAssigned.DefaultAssignment, _Mapping]] = ..., assignment_id: _Optional[str] = ..., rule: _Optional[str] = ..., fallthrough_assignments: _Optional[_Iterable[_Union[_types_pb2.FallthroughAssignment, _Mapping]]] = ..., apply_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
    CLIENT_INFO_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_ID_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    client_info: ClientInfo
    resolve_id: str
    flags: _containers.RepeatedCompositeFieldContainer[FlagAssigned.AppliedFlag]
    def __init__(self, client_info: _Optional[_Union[ClientInfo, _Mapping]] = ..., resolve_id: _Optional[str] = ..., flags: _Optional[_Iterable[_Union[FlagAssigned.AppliedFlag, _Mapping]]] = ...) -> None: ...

class ClientResolveInfo(_message.Message):
    __slots__ = ("client", "client_credential", "schema")
    class EvaluationContextKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[ClientResolveInfo.EvaluationContextKind]
        NULL_KIND: _ClassVar[ClientResolveInfo.EvaluationContextKind]
        NUMBER_KIND: _ClassVar[ClientResolveInfo.EvaluationContextKind]
        STRING_KIND: _ClassVar[ClientResolveInfo.EvaluationContextKind]
        BOOL_KIND: _ClassVar[ClientResolveInfo.EvaluationContextKind]
    KIND_UNSPECIFIED: ClientResolveInfo.EvaluationContextKind
    NULL_KIND: ClientResolveInfo.EvaluationContextKind
    NUMBER_KIND: ClientResolveInfo.EvaluationContextKind
    STRING_KIND: ClientResolveInfo.EvaluationContextKind
    BOOL_KIND: ClientResolveInfo.EvaluationContextKind
    class SchemaInstance(_message.Message):
        __slots__ = ("schema", "semantic_types")
        class SchemaEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: ClientResolveInfo.EvaluationContextKind
            def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ClientResolveInfo.EvaluationContextKind, str]] = ...) -> None: ...
        class SemanticTypesEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: ContextFieldSemanticType
            def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ContextFieldSemanticType, _Mapping]] = ...) -> None: ...
        SCHEMA_FIELD_NUMBER: _ClassVar[int]
        SEMANTIC_TYPES_FIELD_NUMBER: _ClassVar[int]
        schema: _containers.ScalarMap[str, ClientResolveInfo.EvaluationContextKind]
        semantic_types: _containers.MessageMap[str, ContextFieldSemanticType]
        def __init__(self, schema: _Optional[_Mapping[str, ClientResolveInfo.EvaluationContextKind]] = ..., semantic_types: _Optional[_Mapping[str, ContextFieldSemanticType]] = ...) -> None: ...
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    client: str
    client_credential: str
    schema: _containers.RepeatedCompositeFieldContainer[ClientResolveInfo.SchemaInstance]
    def __init__(self, client: _Optional[str] = ..., client_credential: _Optional[str] = ..., schema: _Optional[_Iterable[_Union[ClientResolveInfo.SchemaInstance, _Mapping]]] = ...) -> None: ...

class ContextFieldSemanticType(_message.Message):
    __slots__ = ("country", "version", "date", "timestamp")
    class Country(_message.Message):
        __slots__ = ("format",)
        class CountryFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
            __slots__ = ()
            COUNTRY_FORMAT_UNSPECIFIED: _ClassVar[ContextFieldSemanticType.Country.CountryFormat]
            TWO_LETTER_ISO_CODE: _ClassVar[ContextFieldSemanticType.Country.CountryFormat]
        COUNTRY_FORMAT_UNSPECIFIED: ContextFieldSemanticType.Country.CountryFormat
        TWO_LETTER_ISO_CODE: ContextFieldSemanticType.Country.CountryFormat
        FORMAT_FIELD_NUMBER: _ClassVar[int]
        format: ContextFieldSemanticType.Country.CountryFormat
        def __init__(self, format: _Optional[_Union[ContextFieldSemanticType.Country.CountryFormat, str]] = ...) -> None: ...
    class Version(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class Date(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class Timestamp(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DATE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    country: ContextFieldSemanticType.Country
    version: ContextFieldSemanticType.Version
    date: ContextFieldSemanticType.Date
    timestamp: ContextFieldSemanticType.Timestamp
    def __init__(self, country: _Optional[_Union[ContextFieldSemanticType.Country, _Mapping]] = ..., version: _Optional[_Union[ContextFieldSemanticType.Version, _Mapping]] = ..., date: _Optional[_Union[ContextFieldSemanticType.Date, _Mapping]] = ..., timestamp: _Optional[_Union[ContextFieldSemanticType.Timestamp, _Mapping]] = ...) -> None: ...

class FlagResolveInfo(_message.Message):
    __slots__ = ("flag", "variant_resolve_info", "rule_resolve_info")
    class VariantResolveInfo(_message.Message):
        __slots__ = ("variant", "count")
        VARIANT_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        variant: str
        count: int
        def __init__(self, variant: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...
    class AssignmentResolveInfo(_message.Message):
        __slots__ = ("assignment_id", "count")
        ASSIGNMENT_ID_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        assignment_id: str
        count: int
        def __init__(self, assignment_id: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...
    class RuleResolveInfo(_message.Message):
        __slots__ = ("rule", "count", "assignment_resolve_info")
        RULE_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        ASSIGNMENT_RESOLVE_INFO_FIELD_NUMBER: _ClassVar[int]
        rule: str
        count: int
        assignment_resolve_info: _containers.RepeatedCompositeFieldContainer[FlagResolveInfo.AssignmentResolveInfo]
        def __init__(self, rule: _Optional[str] = ..., count: _Optional[int] = ..., assignment_resolve_info: _Optional[_Iterable[_Union[FlagResolveInfo.AssignmentResolveInfo, _Mapping]]] = ...) -> None: ...
    FLAG_FIELD_NUMBER: _ClassVar[int]
    VARIANT_RESOLVE_INFO_FIELD_NUMBER: _ClassVar[int]
    RULE_RESOLVE_INFO_FIELD_NUMBER: _ClassVar[int]
    flag: str
    variant_resolve_info: _containers.RepeatedCompositeFieldContainer[FlagResolveInfo.VariantResolveInfo]
    rule_resolve_info: _containers.RepeatedCompositeFieldContainer[FlagResolveInfo.RuleResolveInfo]
    def __init__(self, flag: _Optional[str] = ..., variant_resolve_info: _Optional[_Iterable[_Union[FlagResolveInfo.VariantResolveInfo, _Mapping]]] = ..., rule_resolve_info: _Optional[_Iterable[_Union[FlagResolveInfo.RuleResolveInfo, _Mapping]]] = ...) -> None: ...

class TelemetryData(_message.Message):
    __slots__ = ("sdk", "resolve_latency", "resolve_rate", "state_age", "memory_bytes", "resolver_version")
    class ResolveLatency(_message.Message):
        __slots__ = ("sum", "count", "buckets", "ln_ratio")
        class Buckets(_message.Message):
            __slots__ = ("offset", "counts")
            OFFSET_FIELD_NUMBER: _ClassVar[int]
            COUNTS_FIELD_NUMBER: _ClassVar[int]
            offset: int
            counts: _containers.RepeatedScalarFieldContainer[int]
            def __init__(self, offset: _Optional[int] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...
        SUM_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        BUCKETS_FIELD_NUMBER: _ClassVar[int]
        LN_RATIO_FIELD_NUMBER: _ClassVar[int]
        sum: int
        count: int
        buckets: _containers.RepeatedCompositeFieldContainer[TelemetryData.ResolveLatency.Buckets]
        ln_ratio: float
        def __init__(self, sum: _Optional[int] = ..., count: _Optional[int] = ..., buckets: _Optional[_Iterable[_Union[TelemetryData.ResolveLatency.Buckets, _Mapping]]] = ..., ln_ratio: _Optional[float] = ...) -> None: ...
    class ResolveRate(_message.Message):
        __slots__ = ("count", "reason")
        COUNT_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        count: int
        reason: _types_pb2.ResolveReason
        def __init__(self, count: _Optional[int] = ..., reason: _Optional[_Union[_types_pb2.ResolveReason, str]] = ...) -> None: ...
    class StateAge(_message.Message):
        __slots__ = ("last_state_update",)
        LAST_STATE_UPDATE_FIELD_NUMBER: _ClassVar[int]
        last_state_update: int
        def __init__(self, last_state_update: _Optional[int] = ...) -> None: ...
    SDK_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_LATENCY_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_RATE_FIELD_NUMBER: _ClassVar[int]
    STATE_AGE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESOLVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    sdk: _types_pb2.Sdk
    resolve_latency: TelemetryData.ResolveLatency
    resolve_rate: _containers.RepeatedCompositeFieldContainer[TelemetryData.ResolveRate]
    state_age: TelemetryData.StateAge
    memory_bytes: int
    resolver_version: str
    def __init__(self, sdk: _Optional[_Union[_types_pb2.Sdk, _Mapping]] = ..., resolve_latency: _Optional[_Union[TelemetryData.ResolveLatency, _Mapping]] = ..., resolve_rate: _Optional[_Iterable[_Union[TelemetryData.ResolveRate, _Mapping]]] = ..., state_age: _Optional[_Union[TelemetryData.StateAge, _Mapping]] = ..., memory_bytes: _Optional[int] = ..., resolver_version: _Optional[str] = ...) -> None: ...
