import datetime

from flagedge.wire import types_pb2 as _types_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClientResolverState(_message.Message):
    __slots__ = ("state", "account", "log_destinations")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    LOG_DESTINATIONS_FIELD_NUMBER: _ClassVar[int]
    state: bytes
    account: str
    log_destinations: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, state: _Optional[bytes] = ..., account: _Optional[str] = ..., log_destinations: _Optional[_Iterable[int]] = ...) -> None: ...

class ResolverState(_message.Message):
    __slots__ = ("flags", "segments_no_bitsets", "bitsets", "clients", "client_credentials", "bloom_filters")
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_NO_BITSETS_FIELD_NUMBER: _ClassVar[int]
    BITSETS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    BLOOM_FILTERS_FIELD_NUMBER: _ClassVar[int]
    flags: _containers.RepeatedCompositeFieldContainer[Flag]
    segments_no_bitsets: _containers.RepeatedCompositeFieldContainer[Segment]
    bitsets: _containers.RepeatedCompositeFieldContainer[PackedBitset]
    clients: _containers.RepeatedCompositeFieldContainer[Client]
    client_credentials: _containers.RepeatedCompositeFieldContainer[ClientCredential]
    bloom_filters: _containers.RepeatedCompositeFieldContainer[BloomFilter]
    def __init__(self, flags: _Optional[_Iterable[_Union[Flag, _Mapping]]] = ..., segments_no_bitsets: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ..., bitsets: _Optional[_Iterable[_Union[PackedBitset, _Mapping]]] = ..., clients: _Optional[_Iterable[_Union[Client, _Mapping]]] = ..., client_credentials: _Optional[_Iterable[_Union[ClientCredential, _Mapping]]] = ..., bloom_filters: _Optional[_Iterable[_Union[BloomFilter, _Mapping]]] = ...) -> None: ...

class PackedBitset(_message.Message):
    __slots__ = ("segment", "gzipped_bitset", "full_bitset")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    GZIPPED_BITSET_FIELD_NUMBER: _ClassVar[int]
    FULL_BITSET_FIELD_NUMBER: _ClassVar[int]
    segment: str
    gzipped_bitset: bytes
    full_bitset: bool
    def __init__(self, segment: _Optional[str] = ..., gzipped_bitset: _Optional[bytes] = ..., full_bitset: bool = ...) -> None: ...

class BloomFilter(_message.Message):
    __slots__ = ("materialized_segment", "data", "hash_function_count", "bit_count", "strategy")
    MATERIALIZED_SEGMENT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    HASH_FUNCTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    BIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    materialized_segment: str
    data: bytes
    hash_function_count: int
    bit_count: int
    strategy: int
    def __init__(self, materialized_segment: _Optional[str] = ..., data: _Optional[bytes] = ..., hash_function_count: _Optional[int] = ..., bit_count: _Optional[int] = ..., strategy: _Optional[int] = ...) -> None: ...

class Flag(_message.Message):
    __slots__ = ("name", "schema", "variants", "state", "rules", "clients")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Flag.State]
        ACTIVE: _ClassVar[Flag.State]
        ARCHIVED: _ClassVar[Flag.State]
    STATE_UNSPECIFIED: Flag.State
    ACTIVE: Flag.State
    ARCHIVED: Flag.State
    class Variant(_message.Message):
        __slots__ = ("name", "value")
        NAME_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        name: str
        value: _struct_pb2.Struct
        def __init__(self, name: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...
    class Rule(_message.Message):
        __slots__ = ("name", "segment", "targeting_key_selector", "enabled", "assignment_spec", "materialization_spec", "environments")
        NAME_FIELD_NUMBER: _ClassVar[int]
        SEGMENT_FIELD_NUMBER: _ClassVar[int]
        TARGETING_KEY_SELECTOR_FIELD_NUMBER: _ClassVar[int]
        ENABLED_FIELD_NUMBER: _ClassVar[int]
        ASSIGNMENT_SPEC_FIELD_NUMBER: _ClassVar[int]
        MATERIALIZATION_SPEC_FIELD_NUMBER: _ClassVar[int]
        ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
        name: str
        segment: str
        targeting_key_selector: str
        enabled: bool
        assignment_spec: Flag.AssignmentSpec
        materialization_spec: Flag.MaterializationSpec
        environments: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, name: _Optional[str] = ..., segment: _Optional[str] = ..., targeting_key_selector: _Optional[str] = ..., enabled: bool = ..., assignment_spec: _Optional[_Union[Flag.AssignmentSpec, _Mapping]] = ..., materialization_spec: _Optional[_Union[Flag.MaterializationSpec, _Mapping]] = ..., environments: _Optional[_Iterable[str]] = ...) -> None: ...
    class AssignmentSpec(_message.Message):
        __slots__ = ("bucket_count", "assignments")
        BUCKET_COUNT_FIELD_NUMBER: _ClassVar[int]
        ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
        bucket_count: int
        assignments: _containers.RepeatedCompositeFieldContainer[Flag.Assignment]
        def __init__(self, bucket_count: _Optional[int] = ..., assignments: _Optional[_Iterable[_Union[Flag.Assignment, _Mapping]]] = ...) -> None: ...
    class Assignment(_message.Message):
        __slots__ = ("assignment_id", "variant", "fallthrough", "client_default", "bucket_ranges")
        class VariantAssignment(_message.Message):
            __slots__ = ("variant",)
            VARIANT_FIELD_NUMBER: _ClassVar[int]
            variant: str
            def __init__(self, variant: _Optional[str] = ...) -> None: ...
        class FallthroughAssignment(_message.Message):
            __slots__ = ()
            def __init__(self) -> None: ...
        class ClientDefaultAssignment(_message.Message):
            __slots__ = ()
            def __init__(self) -> None: ...
        ASSIGNMENT_ID_FIELD_NUMBER: _ClassVar[int]
        VARIANT_FIELD_NUMBER: _ClassVar[int]
        FALLTHROUGH_FIELD_NUMBER: _ClassVar[int]
        CLIENT_DEFAULT_FIELD_NUMBER: _ClassVar[int]
        BUCKET_RANGES_FIELD_NUMBER: _ClassVar[int]
        assignment_id: str
        variant: Flag.Assignment.VariantAssignment
        fallthrough: Flag.Assignment.FallthroughAssignment
        client_default: Flag.Assignment.ClientDefaultAssignment
        bucket_ranges: _containers.RepeatedCompositeFieldContainer[Flag.BucketRange]
        def __init__(self, assignment_id: _Optional[str] = ..., variant: _Optional[_Union[Flag.Assignment.VariantAssignment, _Mapping]] = ..., fallthrough: _Optional[_Union[Flag.Assignment.FallthroughAssignment, _Mapping]] = ..., client_default: _Optional[_Union[Flag.Assignment.ClientDefaultAssignment, _Mapping]] = ..., bucket_ranges: _Optional[_Iterable[_Union[Flag.BucketRange, _Mapping]]] = ...) -> None: ...
    class BucketRange(_message.Message):
        __slots__ = ("lower", "upper")
        LOWER_FIELD_NUMBER: _ClassVar[int]
        UPPER_FIELD_NUMBER: _ClassVar[int]
        lower: int
        upper: int
        def __init__(self, lower: _Optional[int] = ..., upper: _Optional[int] = ...) -> None: ...
    class MaterializationSpec(_message.Message):
        __slots__ = ("write_materialization", "read_materialization", "mode")
        class ReadMode(_message.Message):
            __slots__ = ("materialization_must_match", "segment_targeting_can_be_ignored")
            MATERIALIZATION_MUST_MATCH_FIELD_NUMBER: _ClassVar[int]
            SEGMENT_TARGETING_CAN_BE_IGNORED_FIELD_NUMBER: _ClassVar[int]
            materialization_must_match: bool
            segment_targeting_can_be_ignored: bool
            def __init__(self, materialization_must_match: bool = ..., segment_targeting_can_be_ignored: bool = ...) -> None: ...
        WRITE_MATERIALIZATION_FIELD_NUMBER: _ClassVar[int]
        READ_MATERIALIZATION_FIELD_NUMBER: _ClassVar[int]
        MODE_FIELD_NUMBER: _ClassVar[int]
        write_materialization: str
        read_materialization: str
        mode: Flag.MaterializationSpec.ReadMode
        def __init__(self, write_materialization: _Optional[str] = ..., read_materialization: _Optional[str] = ..., mode: _Optional[_Union[Flag.MaterializationSpec.ReadMode, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    schema: _types_pb2.StructFlagSchema
    variants: _containers.RepeatedCompositeFieldContainer[Flag.Variant]
    state: Flag.State
    rules: _containers.RepeatedCompositeFieldContainer[Flag.Rule]
    clients: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., schema: _Optional[_Union[_types_pb2.StructFlagSchema, _Mapping]] = ..., variants: _Optional[_Iterable[_Union[Flag.Variant, _Mapping]]] = ..., state: _Optional[_Union[Flag.State, str]] = ..., rules: _Optional[_Iterable[_Union[Flag.Rule, _Mapping]]] = ..., clients: _Optional[_Iterable[str]] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("name", "targeting")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TARGETING_FIELD_NUMBER: _ClassVar[int]
    name: str
    targeting: Targeting
    def __init__(self, name: _Optional[str] = ..., targeting: _Optional[_Union[Targeting, _Mapping]] = ...) -> None: ...

class Targeting(_message.Message):
    __slots__ = ("criteria", "expression")
    class CriteriaEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Criterion
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Criterion, _Mapping]] = ...) -> None: ...
    CRITERIA_FIELD_NUMBER: _ClassVar[int]
    EXPRESSION_FIELD_NUMBER: _ClassVar[int]
    criteria: _containers.MessageMap[str, Criterion]
    expression: Expression
    def __init__(self, criteria: _Optional[_Mapping[str, Criterion]] = ..., expression: _Optional[_Union[Expression, _Mapping]] = ...) -> None: ...

class Criterion(_message.Message):
    __slots__ = ("attribute", "segment", "materialized_segment")
    class SegmentCriterion(_message.Message):
        __slots__ = ("segment",)
        SEGMENT_FIELD_NUMBER: _ClassVar[int]
        segment: str
        def __init__(self, segment: _Optional[str] = ...) -> None: ...
    class MaterializedSegmentCriterion(_message.Message):
        __slots__ = ("materialized_segment",)
        MATERIALIZED_SEGMENT_FIELD_NUMBER: _ClassVar[int]
        materialized_segment: str
        def __init__(self, materialized_segment: _Optional[str] = ...) -> None: ...
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    MATERIALIZED_SEGMENT_FIELD_NUMBER: _ClassVar[int]
    attribute: AttributeCriterion
    segment: Criterion.SegmentCriterion
    materialized_segment: Criterion.MaterializedSegmentCriterion
    def __init__(self, attribute: _Optional[_Union[AttributeCriterion, _Mapping]] = ..., segment: _Optional[_Union[Criterion.SegmentCriterion, _Mapping]] = ..., materialized_segment: _Optional[_Union[Criterion.MaterializedSegmentCriterion, _Mapping]] = ...) -> None: ...

class AttributeCriterion(_message.Message):
    __slots__ = ("attribute_name", "eq_rule", "set_rule", "range_rule", "any_rule", "all_rule", "starts_with_rule", "ends_with_rule", "contains_rule")
    ATTRIBUTE_NAME_FIELD_NUMBER: _ClassVar[int]
    EQ_RULE_FIELD_NUMBER: _ClassVar[int]
    SET_RULE_FIELD_NUMBER: _ClassVar[int]
    RANGE_RULE_FIELD_NUMBER: _ClassVar[int]
    ANY_RULE_FIELD_NUMBER: _ClassVar[int]
    ALL_RULE_FIELD_NUMBER: _ClassVar[int]
    STARTS_WITH_RULE_FIELD_NUMBER: _ClassVar[int]
    ENDS_WITH_RULE_FIELD_NUMBER: _ClassVar[int]
    CONTAINS_RULE_FIELD_NUMBER: _ClassVar[int]
    attribute_name: str
    eq_rule: EqRule
    set_rule: SetRule
    range_rule: RangeRule
    any_rule: ListRule
    all_rule: ListRule
    starts_with_rule: TextRule
    ends_with_rule: TextRule
    contains_rule: TextRule
    def __init__(self, attribute_name: _Optional[str] = ..., eq_rule: _Optional[_Union[EqRule, _Mapping]] = ..., set_rule: _Optional[_Union[SetRule, _Mapping]] = ..., range_rule: _Optional[_Union[RangeRule, _Mapping]] = ..., any_rule: _Optional[_Union[ListRule, _Mapping]] = ..., all_rule: _Optional[_Union[ListRule, _Mapping]] = ..., starts_with_rule: _Optional[_Union[TextRule, _Mapping]] = ..., ends_with_rule: _Optional[_Union[TextRule, _Mapping]] = ..., contains_rule: _Optional[_Union[TextRule, _Mapping]] = ...) -> None: ...

class ListRule(_message.Message):
    __slots__ = ("rule",)
    RULE_FIELD_NUMBER: _ClassVar[int]
    rule: InnerRule
    def __init__(self, rule: _Optional[_Union[InnerRule, _Mapping]] = ...) -> None: ...

class InnerRule(_message.Message):
    __slots__ = ("eq_rule", "set_rule", "range_rule", "starts_with_rule", "ends_with_rule", "contains_rule")
    EQ_RULE_FIELD_NUMBER: _ClassVar[int]
    SET_RULE_FIELD_NUMBER: _ClassVar[int]
    RANGE_RULE_FIELD_NUMBER: _ClassVar[int]
    STARTS_WITH_RULE_FIELD_NUMBER: _ClassVar[int]
    ENDS_WITH_RULE_FIELD_NUMBER: _ClassVar[int]
    CONTAINS_RULE_FIELD_NUMBER: _ClassVar[int]
    eq_rule: EqRule
    set_rule: SetRule
    range_rule: RangeRule
    starts_with_rule: TextRule
    ends_with_rule: TextRule
    contains_rule: TextRule
    def __init__(self, eq_rule: _Optional[_Union[EqRule, _Mapping]] = ..., set_rule: _Optional[_Union[SetRule, _Mapping]] = ..., range_rule: _Optional[_Union[RangeRule, _Mapping]] = ..., starts_with_rule: _Optional[_Union[TextRule, _Mapping]] = ..., ends_with_rule: _Optional[_Union[TextRule, _Mapping]] = ..., contains_rule: _Optional[_Union[TextRule, _Mapping]] = ...) -> None: ...

class EqRule(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: TargetingValue
    def __init__(self, value: _Optional[_Union[TargetingValue, _Mapping]] = ...) -> None: ...

class SetRule(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[TargetingValue]
    def __init__(self, values: _Optional[_Iterable[_Union[TargetingValue, _Mapping]]] = ...) -> None: ...

class RangeRule(_message.Message):
    __slots__ = ("start_inclusive", "start_exclusive", "end_inclusive", "end_exclusive")
    START_INCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    START_EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    END_INCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    END_EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    start_inclusive: TargetingValue
    start_exclusive: TargetingValue
    end_inclusive: TargetingValue
    end_exclusive: TargetingValue
    def __init__(self, start_inclusive: _Optional[_Union[TargetingValue, _Mapping]] = ..., start_exclusive: _Optional[_Union[TargetingValue, _Mapping]] = ..., end_inclusive: _Optional[_Union[TargetingValue, _Mapping]] = ..., end_exclusive: _Optional[_Union[TargetingValue, _Mapping]] = ...) -> None: ...

class TextRule(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: str
    def __init__(self, value: _Optional[str] = ...) -> None: ...

class TargetingValue(_message.Message):
    __slots__ = ("bool_value", "string_value", "timestamp_value", "version_value", "number_value", "list_value")
    class Version(_message.Message):
        __slots__ = ("version",)
        VERSION_FIELD_NUMBER: _ClassVar[int]
        version: str
        def __init__(self, version: _Optional[str] = ...) -> None: ...
    class List(_message.Message):
        __slots__ = ("values",)
        VALUES_FIELD_NUMBER: _ClassVar[int]
        values: _containers.RepeatedCompositeFieldContainer[TargetingValue]
        def __init__(self, values: _Optional[_Iterable[_Union[TargetingValue, _Mapping]]] = ...) -> None: ...
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_VALUE_FIELD_NUMBER: _ClassVar[int]
    VERSION_VALUE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_VALUE_FIELD_NUMBER: _ClassVar[int]
    LIST_VALUE_FIELD_NUMBER: _ClassVar[int]
    bool_value: bool
    string_value: str
    timestamp_value: _timestamp_pb2.Timestamp
    version_value: TargetingValue.Version
    number_value: float
    list_value: TargetingValue.List
    def __init__(self, bool_value: bool = ..., string_value: _Optional[str] = ..., timestamp_value: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., version_value: _Optional[_Union[TargetingValue.Version, _Mapping]] = ..., number_value: _Optional[float] = ..., list_value: _Optional[_Union[TargetingValue.List, _Mapping]] = ...) -> None: ...

class Expression(_message.Message):
    __slots__ = ("ref",)
    class Operands(_message.Message):
        __slots__ = ("operands",)
        OPERANDS_FIELD_NUMBER: _ClassVar[int]
        operands: _containers.RepeatedCompositeFieldContainer[Expression]
        def __init__(self, operands: _Optional[_Iterable[_Union[Expression, _Mapping]]] = ...) -> None: ...
    REF_FIELD_NUMBER: _ClassVar[int]
    NOT_FIELD_NUMBER: _ClassVar[int]
    AND_FIELD_NUMBER: _ClassVar[int]
    OR_FIELD_NUMBER: _ClassVar[int]
    ref: str
    def __init__(self, ref: _Optional[str] = ..., **kwargs) -> None: ...

class Client(_message.Message):
    __slots__ = ("name", "managed_context")
    class ManagedContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _struct_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    MANAGED_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    managed_context: _containers.MessageMap[str, _struct_pb2.Value]
    def __init__(self, name: _Optional[str] = ..., managed_context: _Optional[_Mapping[str, _struct_pb2.Value]] = ...) -> None: ...

class ClientCredential(_message.Message):
    __slots__ = ("name", "client_secret", "environments")
    class ClientSecret(_message.Message):
        __slots__ = ("secret",)
        SECRET_FIELD_NUMBER: _ClassVar[int]
        secret: str
        def __init__(self, secret: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_SECRET_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    client_secret: ClientCredential.ClientSecret
    environments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., client_secret: _Optional[_Union[ClientCredential.ClientSecret, _Mapping]] = ..., environments: _Optional[_Iterable[str]] = ...) -> None: ...
