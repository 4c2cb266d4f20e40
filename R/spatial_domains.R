# Domains: parts of the tissue in which the factors have the same values, up to noise.

# Without being asked, no more domains are tried than have so many spots each.
least_domain <- 5L

#' Divide a tissue into domains
#'
#' A mixture of the spots' factors whose labels prefer to agree with those of neighbouring spots (a Potts
#' model). The strength of that preference is learned. Distances between spots are those of the expression
#' that the factors explain, each gene in standard deviations of its noise, so a program of many genes counts
#' for more than one of a few, and how factors are turned for reporting makes no difference. Errors are
#' t-distributed, with one covariance for all domains; with few spots it is drawn towards equal variances.
#' Spots are neighbours if no third lies in the circle between them: six on a hexagonal lattice, four on a
#' square one. Of several starts the best is taken; of more than 5,000 spots these are found by up to 5,000,
#' spread evenly over the others. The result is the same on every run.
#'
#' The errors of spots up to two steps away are alike: expression varies smoothly within domains too, and
#' were each spot evidence of its own, any smooth program would be divided into domains.
#'
#' The mixture sees the ten leading axes of what is smooth, however many factors are reported. What each
#' spot has of its own sharpens borders and thin layers, but where cells of many types are mixed in every
#' domain it would make domains of types instead of areas: it counts the less, the more of it there is (0.15
#' times the ratio of the smooth part's variance to its own, from 0.1 to 0.4). If neighbours tell little
#' of a spot's domain all the same (`beta` below 0.25, or below 0.35 where that ratio is below 2), domains are
#' found again from means over neighbouring spots.
#'
#' @section Choosing the number of domains:
#' Of several `n_domains`, the one with the highest `criterion` is taken: the log pseudo-likelihood of the
#' spots' factors and labels, less a penalty for each domain. Expression varies within domains too, and lies
#' in between where two of them meet, so that the likelihood grows with any further domain, and the more, the
#' more domains differ. So each must gain in proportion: the penalty is a quarter of what the divisions in two
#' and in three domains gain on the average, and at least half of log n for each coordinate of a domain's
#' mean. Where one difference is much larger than all others, weak domains may be merged. Anatomists' domains
#' need not be those that expression separates best: give a number if you have one.
#'
#' Where no factor is supported (see [spatial_factors()]), nothing divides the tissue: without `n_domains` it
#' is one domain, with a warning of class `patina_warning_no_domains`.
#'
#' @section Probabilities:
#' To the mixture the axes of a spot, and spots near each other, are more evidence than they are: of spots to
#' which it gives 0.9 to 0.99, three quarters are right. `probability` is its own to the power of 0.3 (so
#' that those of all domains add up to 1). In 40 simulated tissues, which had no part in that choice, 66, 82,
#' 95 and 99 % of the spots with 0.5 to 0.7, to 0.9, to 0.99 and above were in the part of the tissue that
#' most of their domain is in: 90 % of all, as on the average of the probabilities. It is too high where parts
#' are a few spots wide or hardly differ (72 % right at 0.83), and too low where they differ much.
#'
#' @param factors A result of [spatial_factors()]. Spots of all its samples share the domains, also where
#'   samples hold other parts of a tissue, as far as their factors' means tell it.
#' @param n_domains Number of domains, or several to choose from; by default 2 to 10 (of fewer than 50 spots
#'   to a fifth of their number), or 1 where no factor is supported.
#' @param ... Not used.
#' @param threads Number of threads, see [spatial_test()].
#' @returns A tibble of class `patina_domains` with a row for each spot, in the order of the input: `spot`,
#'   `sample` (of several), the coordinates, `domain` (a factor; 1 is the largest) and `probability` (that the
#'   spot belongs to it, see Probabilities). The attribute `patina` has `criterion` (a tibble of those tried),
#'   `beta` (the strength of the neighbours' influence) and `means` (of their spots; domains × factors).
#' @section Errors:
#' `patina_error_argument` if `factors` is not a result of [spatial_factors()], or `n_domains` is not whole,
#' or above the number of spots.
#' @references
#' E. Zhao et al. (2021). Spatial transcriptomics at subspot resolution with BayesSpace. *Nature
#' Biotechnology* 39. \doi{10.1038/s41587-021-00935-2}
#'
#' J. Besag (1986). On the statistical analysis of dirty pictures. *Journal of the Royal Statistical Society
#' B* 48.
#' @seealso [plot_domains()], [add_results()]
#' @export
#' @examples
#' tissue <- example_tissue(n_spots = 200, n_genes = 80)
#' coords <- tissue$sample_info[c("x", "y")]
#' fit <- spatial_factors(tissue$counts, coords, n_factors = 4, threads = 1)
#' domains <- spatial_domains(fit, n_domains = 4, threads = 1)
#' domains
#' plot_domains(domains)
spatial_domains <- function(factors, n_domains = NULL, ..., threads = NULL) {
  checked(rlang::check_dots_empty())
  call <- rlang::current_env()
  check_factors(factors)
  threads <- resolve_threads(threads, call)
  row <- factors$model$given$row
  # copies of spots come after their originals
  own <- !duplicated(row)
  places <- factors$factors[own, ]
  coords <- as.matrix(places[colnames(factors$model$coords)])
  sample <- places[["sample"]]
  order <- if (is.null(sample)) seq_len(nrow(places)) else order(sample)
  n <- nrow(places)
  if (is.null(n_domains) && isFALSE(factors$supported)) {
    warn_patina(
      c(
        "One domain: no factor of the tissue is supported, so that nothing divides it.",
        i = "Give {.arg n_domains} to divide it all the same."
      ),
      class = "no_domains"
    )
    n_domains <- 1L
  }
  n_domains <- n_domains %||% seq.int(2L, max(2L, min(10L, n %/% least_domain)))
  if (
    !rlang::is_integerish(n_domains, finite = TRUE) ||
      length(n_domains) == 0L ||
      any(n_domains < 1 | n_domains > n)
  ) {
    abort_patina(
      "{.arg n_domains} must be whole numbers from 1 to the number of spots, {n}.",
      class = "argument",
      call = call
    )
  }
  tissue <- factors$model$tissue
  fit <- call_rust(
    rust_find_domains,
    coords[order, , drop = FALSE],
    if (is.null(sample)) n else as.integer(table(sample)),
    tissue$values[order, , drop = FALSE],
    tissue$totals[order, , drop = FALSE],
    sort(unique(as.integer(n_domains))),
    threads
  )
  back <- order(order)
  found <- ncol(fit$probabilities)
  domain <- fit$labels[back]
  smooth <- as.matrix(places[colnames(factors$loadings)])
  shown <- (1 - fit$share) * smooth + fit$share * unname(factors$totals[own, , drop = FALSE])
  table <- factors$factors[setdiff(names(places), colnames(factors$loadings))]
  table$domain <- factor(domain, seq_len(found))[row]
  table$probability <- fit$probabilities[cbind(back, domain)][row]
  tried <- tibble::tibble(n_domains = fit$n_domains, criterion = fit$criterion)
  if (nrow(tried) > 1L) {
    inform_patina(c(
      "{found} domains have the best criterion of {min(tried$n_domains)} to {max(tried$n_domains)}.",
      "!" = if (found == max(tried$n_domains)) {
        "This is the largest number tried: more may fit better, see {.arg n_domains}."
      }
    ))
  }
  tibble::new_tibble(
    table,
    nrow = nrow(table),
    class = "patina_domains",
    patina = list(
      criterion = tried,
      beta = fit$beta,
      means = do.call(rbind, lapply(seq_len(found), \(k) colMeans(shown[domain == k, , drop = FALSE]))),
      coords = colnames(coords),
      n = nrow(table),
      version = utils::packageVersion("patina")
    )
  )
}
