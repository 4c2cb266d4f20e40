# Likelihoods of the best genes, where moments serve the others.

#' Check how many genes are to have likelihoods
#'
#' @returns A number, 0 if none was asked for.
#' @noRd
check_likelihood_genes <- function(likelihood_genes, call) {
  if (is.null(likelihood_genes)) {
    return(0)
  }
  if (!identical(likelihood_genes, Inf)) {
    check_whole_number(likelihood_genes, 0, call = call)
  }
  likelihood_genes
}

#' Fit the significant genes by the likelihood, best first
#'
#' Their p-values stay what they are: those of the quadratic forms.
#'
#' @param fits,fitter Of all genes, by moments; see `fit_genes()` and `prepare_fitter()`.
#' @param qval,log10_pval Of all genes.
#' @param most How many genes at most.
#' @inheritParams test_genes
#' @returns The fits, those that could be had replaced.
#' @noRd
fit_best_by_likelihood <- function(fits, fitter, prepared, qval, log10_pval, most, shared = TRUE) {
  best <- which(fits$status == "ok" & fits$by == "moments" & qval < 0.05)
  best <- sort(utils::head(best[order(log10_pval[best])], most))
  if (length(best) == 0L) {
    return(fits)
  }
  own <- tryCatch(
    {
      likelihoods <- prepare_fitter(
        prepared$input,
        fitter$kernels,
        calibrated = FALSE,
        "auto",
        prepared$run,
        "likelihood",
        shared
      )
      fit_genes(likelihoods, prepared, best)
    },
    patina_error_approximation = identity,
    patina_error_memory = identity
  )
  if (rlang::is_condition(own)) {
    warn_patina(
      c(
        "No gene has a likelihood: all keep what moments say.",
        x = reason(own),
        i = "Fewer {.arg lengthscales}, without those in between, leave what can be had."
      ),
      class = "likelihood_genes"
    )
    return(fits)
  }
  settled <- own$status == "ok"
  at <- best[settled]
  # their places among all kernels, should some have been left out
  key <- \(kernels) paste(kernels$model, kernels$lengthscale)
  own$kernel <- match(key(likelihoods$kernels), key(fitter$kernels))[own$kernel]
  for (name in setdiff(names(fits), c("status", "pval", "log10_pval", "probabilities"))) {
    fits[[name]][at] <- own[[name]][settled]
  }
  fits
}
