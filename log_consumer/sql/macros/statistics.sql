-- The statistics of the views. Sources: Abramowitz and Stegun, 26.4.4, 26.4.5 and 7.1.14 (chi-square); Lindon and Malek,
-- "Anytime-Valid Inference for Multinomial Count Data", arXiv 2011.03567 (sequential test).

-- How likely a chi-square value of `chi2` or more is with `df` degrees of freedom, a whole number from 1 on. All terms are
-- positive, so small results are as exact as large ones.
create or replace macro chi_square_p(chi2, df) as
    case
        when df < 1 or chi2 is null then null
        when chi2 <= 0 then 1.0
        when df % 2 = 0 then poisson_terms(chi2 / 2, df // 2, 1.0)
        else upper_half_gamma(chi2 / 2) + poisson_terms(chi2 / 2, df // 2, 1.5)
    end;

-- The sum of x^(i + offset - 1) e^-x / gamma(i + offset) over i = 0 … count - 1.
create or replace macro poisson_terms(x, count, "offset") as
    coalesce(
        list_sum(
            list_transform(
                range(0, count), lambda i: exp((i + "offset" - 1) * ln(greatest(x, 1e-300)) - x - lgamma(i + "offset"))
            )
        ),
        0.0
    );

-- erfc(sqrt(x)): below 4 one minus a series, above a continued fraction, from its 80th level up.
create or replace macro upper_half_gamma(x) as
    case
        when x < 4 then 1 - poisson_terms(x, 60, 1.5)
        else exp(-x) / sqrt(pi()) / list_reduce(
            range(80, 0, -1), lambda fraction, level: sqrt(x) + level / 2 / fraction, sqrt(x)
        )
    end;

-- Whether units are shared out as expected, over several epochs with shares of their own: d' V^- d, of which d are the
-- deviations of assignments from what all epochs together expect, and V is what they vary by, the sum of
-- n (diag(p) - p p') over epochs of n units and shares p. With one epoch that is Pearson's statistic. `cells` has a row for
-- each subject, epoch_number and assignment with an expected_share above 0, these add up to 1, and its unit_count.
-- V links assignments by n p q, for each epoch that shares out both. One after the other they are taken out, and what they
-- deviate and link goes to those that they were linked to: all terms of it are positive, so nothing is lost by rounding.
-- The last of those that are linked to each other, by whatever way, has nothing to compare: it is no degree of freedom.
create or replace macro ratio_tests_of(cells) as table
with recursive
placed as materialized (
    select
        subject,
        epoch_number,
        unit_count,
        expected_share,
        sum(unit_count) over (partition by subject, epoch_number)::double as epoch_count,
        dense_rank() over (partition by subject order by assignment) as place
    from query_table(cells)
),
compared as materialized (
    select subject, place, sum(unit_count)::bigint as unit_count, sum(expected_share * epoch_count) as expected_count
    from placed
    group by subject, place
),
-- What is left at each step: links to those further on, and, where `other` is null, deviations.
steps as (
    (
        select subject, 1::bigint as step, place, null::bigint as other, unit_count - expected_count as amount
        from compared
        union all
        select near.subject, 1, near.place, far.place, sum(near.epoch_count * near.expected_share * far.expected_share)
        from placed as near
        join placed as far
            on far.subject = near.subject and far.epoch_number = near.epoch_number and far.place > near.place
        group by near.subject, near.place, far.place
    )
    union all
    (
        with
        leaving as (
            select *, sum(amount) filter (other is not null) over (partition by subject) as linked
            from steps
            where place = step
        )
        select subject, step, place, other, sum(amount)
        from (
            select subject, step + 1 as step, place, other, amount
            from steps
            where place > step
            union all
            select near.subject, near.step + 1, near.other, far.other, near.amount * far.amount / near.linked
            from leaving as near
            join leaving as far on far.subject = near.subject and (far.other > near.other or far.other is null)
            where near.other is not null and near.linked > 0
        )
        group by subject, step, place, other
    )
),
taken_out as (
    select
        subject,
        sum(amount) filter (other is null) as deviation,
        sum(amount) filter (other is not null) as linked
    from steps
    where place = step
    group by subject, place
),
forms as (
    select subject, sum(deviation ** 2 / linked) as chi2, count(*) as degrees_of_freedom
    from taken_out
    where linked > 0
    group by subject
),
summed as (
    select
        subject,
        if(sum(unit_count) > 0, count(*) filter (expected_count > 0), count(*)) as assignment_count,
        sum(unit_count)::bigint as unit_count,
        max(abs(unit_count - expected_count)) / nullif(sum(unit_count), 0) as max_deviation,
        min(expected_count) filter (expected_count > 0) as min_expected
    from compared
    group by subject
)
select
    subject,
    assignment_count,
    unit_count,
    chi2,
    degrees_of_freedom,
    chi_square_p(chi2, degrees_of_freedom) as p_value,
    max_deviation,
    min_expected
from summed
left join forms using (subject);

-- The logarithm of an e-value: how many times likelier the counts are when the shares are unknown, drawn from a Dirichlet
-- distribution around the expected ones, than with the expected ones. `counts` and `shares` are lists of one length;
-- shares are above 0 and add up to 1. `concentration` is how sure the first is: deviations of about 1 / sqrt(concentration)
-- are found soonest.
create or replace macro multinomial_log_e(counts, shares, concentration) as
    lgamma(concentration) - lgamma(concentration + list_sum(counts))
    + list_sum(
        list_transform(
            list_zip(counts, shares),
            lambda x: lgamma(concentration * x[2] + x[1]) - lgamma(concentration * x[2]) - x[1] * ln(x[2])
        )
    );

-- A bound of Wilson's interval for a share `p` of `n`; `z` is a quantile of the normal distribution, negative for the lower.
create or replace macro wilson_bound(p, n, z) as
    (p + z * z / (2 * n) + z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n);

-- What a sample ratio test says in a word.
create or replace macro srm_verdict(
    assignment_count, unit_count, min_expected, p_value, max_deviation, min_units, least_expected, min_deviation, alpha,
    warning_alpha
) as
    case
        when coalesce(assignment_count, 0) = 0 then 'unknown'
        when assignment_count < 2 or unit_count > 0 and p_value is null then 'nothing_to_compare'
        when unit_count < min_units or coalesce(min_expected, 0) < least_expected then 'too_few'
        when p_value < alpha and max_deviation >= min_deviation then 'mismatch'
        when p_value < warning_alpha then 'warning'
        else 'ok'
    end;
