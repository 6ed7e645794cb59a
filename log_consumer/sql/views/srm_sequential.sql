-- srm_sequential: the same question as srm, for those who look every hour. The p-value is anytime-valid: over a whole
-- experiment without a defect, the chance that it is ever below alpha is at most alpha, however often somebody looks. For that
-- it is slower: it takes some 1.3 to 2 times as many units as a single look. Multinomial test with a Dirichlet mixture (Lindon
-- and Malek, arXiv 2011.03567), a factor for each allocation epoch.
-- Grain: one row per rule and hour (UTC) in which units came first.
--   flag, rule, hour
--   unit_count               units so far that are compared, as in srm
--   max_deviation            the largest difference of observed and expected share so far
--   log_e                    logarithm of how much likelier some other shares are than the expected ones
--   p_value                  the smallest so far
--   verdict                  as in srm, without warnings: ok, mismatch, too_few
create or replace view srm_sequential as
from srm_sequential_of('unit_counts', 'epoch_shares');
