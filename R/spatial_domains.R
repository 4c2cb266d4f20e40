# Domains: parts of the tissue in which the factors have the same values, up to noise.

#' Divide a tissue into domains
#'
#' A mixture of the spots' factors whose labels prefer to agree with those of neighbouring spots (a Potts
#' model). The strength of that preference is learned. Errors are t-distributed, so that an odd spot
#' makes no domain
#' of its own, with one covariance for all domains, which knows from the factors' kernels what is not
#' smooth in
#' them. Spots are neighbours if no third lies in the circle between them: six on a hexagonal lattice,
#' four on a square one. Of several starts the best is taken; the result is the same on every run.
#'
#' The mixture sees up to ten smooth factors where fewer were chosen for reporting, each with what every spot
#' has of its own. If neighbours then hardly agree (`beta` below 0.55), as where cells of many types are mixed
#' in every domain, it found kinds of spots instead of domains: it is fitted again with what is smooth in the
#' factors weighing 0.5, 0.75 or 0.9, the first that makes neighbours agree.
#'
#' @section Choosing the number of domains:
#' Of several `n_domains`, the one with the highest `criterion` is taken: the log pseudo-likelihood of
#' the spots' factors and
#' labels, less half of log n for each coordinate of a domain's mean. Anatomists' domains need not be
#' those that
#' expression separates best: give a number if you have one.
#'
#' @param factors A result of [spatial_factors()]. Spots of all its samples share the domains.
#' @param n_domains Number of domains, or several to choose from; by default 2 to 10.
#' @param ... Not used.
#' @param threads Number of threads, see [spatial_test()].
#' @returns A tibble of class `patina_domains` with a row for each spot, in the order of the input:
#'   `spot`, `sample` (of
#'   several), the coordinates, `domain` (a factor; 1 is the largest) and `probability` (that the spot
#'   belongs to it,
#'   given its neighbours). The attribute `patina` has `criterion` (a tibble of those tried), `beta` (the
#'   strength
#'   of the neighbours' influence), `smooth` (the weight of the smooth part) and `means` (domains × factors).
#' @section Errors:
#' `patina_error_argument` if `factors` is not a result of [spatial_factors()], or `n_domains` is not
#' whole, or above the
#' number of spots.
#' @references
#' E. Zhao et al. (2021). Spatial transcriptomics at subspot resolution with BayesSpace. *Nature
#' Biotechnology* 39.
#' \doi{10.1038/s41587-021-00935-2}
#'
#' J. Besag (1986). On the statistical analysis of dirty pictures. *Journal of the Royal Statistical
#' Society B* 48.
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
  places <- factors$factors
  coords <- as.matrix(places[colnames(factors$model$coords)])
  sample <- places[["sample"]]
  order <- if (is.null(sample)) seq_len(nrow(places)) else order(sample)
  n <- nrow(places)
  n_domains <- n_domains %||% seq.int(2L, min(10L, n - 1L))
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
  axes <- factors$model$axes
  within <- within_domains(axes, factors$model$noise)
  # Labels of which neighbours tell little are kinds of spots: more of the smooth part makes domains of them.
  for (weight in smooth_weights) {
    values <- ((1 - weight) * axes$totals + weight * axes$values) %*% within$whiten
    fit <- call_rust(
      rust_find_domains,
      coords[order, , drop = FALSE],
      if (is.null(sample)) n else as.integer(table(sample)),
      unname(values[order, , drop = FALSE]),
      rep(1, ncol(values)),
      sort(unique(as.integer(n_domains))),
      threads
    )
    if (ncol(fit$probabilities) == 1L || fit$beta >= least_beta) {
      break
    }
  }
  back <- order(order)
  found <- ncol(fit$probabilities)
  domain <- fit$labels[back]
  probability <- fit$probabilities[back, , drop = FALSE][cbind(seq_len(n), domain)]
  table <- places[setdiff(names(places), colnames(factors$loadings))]
  table$domain <- factor(domain, seq_len(found))
  table$probability <- probability
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
    nrow = n,
    class = "patina_domains",
    patina = list(
      criterion = tried,
      beta = fit$beta,
      smooth = weight,
      means = domain_means(fit$means, within)[, colnames(factors$loadings), drop = FALSE],
      coords = colnames(coords),
      version = utils::packageVersion("patina")
    )
  )
}

# Shares of the smooth part to try in turn, and the influence of neighbours that is enough: a neighbour's
# label multiplies its odds by 1.7.
smooth_weights <- c(0, 0.5, 0.75, 0.9)
least_beta <- 0.55

#' What factors are expected to vary within a domain: what each spot has of its own, and the error with which
#' genes tell it
#' @returns A list: `whiten`, by which factors get the covariance 1, and its inverse `back`.
#' @noRd
within_domains <- function(axes, noise) {
  information <- crossprod(axes$loadings / sqrt(noise))
  own <- pmax(axes$own - 1 / diag(information), 1e-3)
  scale <- 1e-8 * max(diag(information))
  covariance <- diag(own, length(own)) + solve(information + diag(scale, length(own)))
  parts <- eigen(covariance, symmetric = TRUE)
  root <- sqrt(pmax(parts$values, 1e-12 * parts$values[[1L]]))
  list(
    whiten = parts$vectors %*% diag(1 / root, length(root)),
    back = t(parts$vectors %*% diag(root, length(root))),
    names = colnames(axes$loadings)
  )
}

domain_means <- function(means, within) {
  means <- matrix(means, ncol = length(within$names)) %*% within$back
  dimnames(means) <- list(NULL, within$names)
  means
}
