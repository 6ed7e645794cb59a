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
        when assignment_count < 2 then 'nothing_to_compare'
        when unit_count < min_units or coalesce(min_expected, 0) < least_expected then 'too_few'
        when p_value < alpha and max_deviation >= min_deviation then 'mismatch'
        when p_value < warning_alpha then 'warning'
        else 'ok'
    end;
