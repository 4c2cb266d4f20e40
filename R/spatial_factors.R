# Spatial factors: smooth programs of the tissue, of which each gene is a mixture.

#' Find the spatial programs of a tissue
#'
#' Factor analysis whose factors are smooth over the tissue: the expression of every gene is a mixture of a
#' few programs, each a Gaussian process with a lengthscale of its own, plus noise of the gene's own. Factors
#' are what a tissue looks like, where [spatial_patterns()] sorts each gene into one pattern.
#'
#' Each factor is smooth up to a share, that each spot has of its own; lengthscale and share are those that
#' predict left-out spots best. Factors that turn out not to be smooth take up what spots differ in wherever
#' they lie (cell types, depth, quality), and are not reported. The loadings are then turned obliquely so that
#' most genes load on few factors (the least absolute loadings of 16 starts, then quartimin without what noise
#' adds to it), so factors may be correlated. The result is the same on every run, for any
#' number of threads and any order of the genes.
#'
#' Several samples have fields of their own and share the loadings. Factors are found by what varies within
#' samples. Their means in each sample come from how the genes' means differ among samples, as far as that is
#' a mixture of the factors: what else differs, gene by gene, is taken for a batch's, and the more of it there
#' is, the less the means are moved (by a regression on the loadings, with a variance of errors for each
#' sample). With `normalization = "pearson"` genes are compared with their own rates in each sample, and
#' hardly any difference is left.
#'
#' With `normalization = "log"`, spots with next to no counts take no part, with a warning: factors there are
#' predicted from the spots around.
#'
#' @section Which to use, patterns or factors:
#' [spatial_patterns()] (automatic expression histology) answers "which genes go together": each gene has one
#' pattern. Spots have no such place in it, and values of patterns are a poor map of tissue domains. Use
#' `spatial_factors()` where genes take part in several programs, for maps of the tissue, for a
#' low-dimensional representation beside or instead of principal components, and for [spatial_domains()].
#'
#' @section Choosing the number of factors:
#' Without `n_factors`, spots are left out, a quarter in turn until at least 2,000 have been (of 20,000 and
#' more a tenth, once), and predicted from the others by 1, 2, ... `most` factors. The number taken is the
#' one that predicts best, less its last factors if each explains less than 0.3 % of what is smooth and
#' without them the prediction is not worse by two standard errors of the difference, over the left-out
#' spots. More factors that predict as well, within two standard errors, are taken if each is more than
#' noise: its loadings are at least half their standard error in the root mean square, and what the genes
#' tell of it at a single spot is at least a fifth of their noise. One factor too few merges two programs,
#' one too many costs each of them little. The shares of the variance that are predicted are in `held_out`.
#'
#' Where even the best number predicts left-out spots no better than the genes' means do, or hardly goes with
#' them (`z`, the mean product of predictions with what was left out in its standard errors, is not above 4),
#' the tissue has no program that can be told from noise: `supported` is `FALSE`, a warning says so, there is
#' one factor, and [spatial_domains()] finds one domain. A tissue of fewer than 30 spots is not divided: it
#' has `most` factors, and `supported` is `NA`.
#'
#' @inheritParams spatial_test
#' @param genes The genes to use: names, or a result of [spatial_test()], perhaps filtered (if it has all
#'   genes of `x`, those with `qval` below 0.05 are taken). `NULL` takes those found in at least 2 % of the
#'   spots, and of these the 2,000 whose neighbouring spots are most alike (Moran's I), taken anew without the
#'   left-out spots where the number of factors is chosen.
#' @param n_factors Number of factors, or `NULL` to choose it. Chosen ones are the leading axes of a fit of
#'   `most`; as many that are given are fitted by themselves, and need not be quite the same.
#' @param most The largest number to choose.
#' @param lengthscale Lengthscales to choose from, in units of `coords`; by default from 0.7 typical distances
#'   between neighbouring spots, each 1.5 times the one before, to 0.4 times the largest distance.
#' @param normalization `"log"`, the default, divides counts by the spot's total, multiplies them by the
#'   median total, and takes `log(1 + x)`; else as for [spatial_test()].
#' @param covariates As for [spatial_test()], but by default nothing is regressed out: a picture of the tissue
#'   shows what varies with depth too.
#' @param max_iterations The most iterations of a fit.
#' @returns An object of class `patina_factors`, a list with the elements
#' * `factors`: a tibble of `spot`, `sample` (of several), the coordinates, and `factor_1`, `factor_2`, ...:
#'   the factors' smooth parts, each of variance 1 over the spots (of several samples, before their means are
#'   added), in order of the variance that they explain
#'   (a coordinate that is called as another column of results, such as `value`, becomes `value_coord`);
#' * `loadings`: the matrix of loadings, genes × factors, in standard deviations of the gene; a factor's
#'   largest loading is positive;
#' * `summary`: a tibble of `factor`, `variance` (the share of all genes' variance that it explains; shares of
#'   correlated factors overlap, so that they need not add up),
#'   `lengthscale`, `smooth` (the share of the factor's variance that is smooth); more factors than the tissue
#'   has are 0 everywhere, and their lengthscale is `NaN`;
#' * `held_out`: a tibble of `n_factors` (0 are the genes' means), `r_squared`, the share of the variance
#'   predicted at left-out spots, `se`, the standard error of its difference from the largest of at least one
#'   factor, and `z`; or `NULL`;
#' * `supported`: whether factors tell something of left-out spots; `NA` if that was not asked, because
#'   `n_factors` was given;
#' * `totals`: the matrix of factors with what each spot has of its own, spots × factors;
#' * `model`: what `predict()` and [spatial_domains()] need.
#' @section Errors:
#' `patina_error_argument` for an argument outside its range, among them more factors than genes;
#' `patina_error_names` if `genes` are not in `x`; `patina_error_data` if no gene can be used. Genes that are
#' constant or not finite are left out with a warning of class `patina_warning_genes` if they were asked for;
#' a warning of class `patina_warning_no_factors` says that no factor is supported.
#' @references
#' B. Velten et al. (2022). Identifying temporal and spatial patterns of variation from multimodal data using
#' MEFISTO. *Nature Methods* 19. \doi{10.1038/s41592-021-01343-9}
#'
#' L. Shang, X. Zhou (2022). Spatially aware dimension reduction for spatial transcriptomics. *Nature
#' Communications* 13. \doi{10.1038/s41467-022-34879-1}
#' @seealso [spatial_domains()], [plot_factors()], [add_results()], [predict.patina_factors()]
#' @export
#' @examples
#' tissue <- example_tissue(n_spots = 200, n_genes = 80)
#' coords <- tissue$sample_info[c("x", "y")]
#' fit <- spatial_factors(tissue$counts, coords, n_factors = 4, threads = 1)
#' fit
#' spatial_domains(fit, n_domains = 4, threads = 1)
spatial_factors <- function(
  x,
  coords = NULL,
  genes = NULL,
  n_factors = NULL,
  lengthscale = NULL,
  ...,
  most = 15L,
  assay = "counts",
  normalization = c("log", "pearson", "anscombe", "none"),
  covariates = if (normalization != "none") ~1,
  sample_info = NULL,
  sample_id = NULL,
  max_iterations = 40L,
  threads = NULL,
  progress = interactive()
) {
  from <- source_options(...)
  normalization <- checked(rlang::arg_match(normalization))
  run <- new_run(threads, progress = progress)
  check_whole_number(max_iterations, 1, .Machine$integer.max)
  check_whole_number(most, 1, 1000)
  if (!is.null(n_factors)) {
    check_whole_number(n_factors, 1, 1000)
  }
  if (!is.null(lengthscale)) {
    check_lengthscales(lengthscale, "lengthscale", run$call)
  }
  given <- results_for_coords(coords, genes, run$call)
  genes <- given$genes
  prepared <- if (normalization == "log") {
    prepare_log(x, given$coords, assay, from, sample_info, sample_id, covariates, run)
  } else {
    settings <- new_settings(normalization, covariates)
    prepare(x, given$coords, assay, from, sample_info, sample_id, settings, run)
  }
  input <- prepared$input
  spots <- without_junk(sample_order(input), prepared$junk, input$sample_id)
  chosen <- if (is.null(genes)) {
    most_spatial(prepared, spots, choose = is.null(n_factors))
  } else {
    choose_genes(genes, input, "genes", run$call)
  }
  # genes that only folds use come last
  all <- union(chosen$index, unlist(chosen$folds))
  expression <- pattern_expression(prepared, all, spots$order)
  used <- all[expression$usable]
  n_genes <- sum(used %in% chosen$index)
  check_n_factors(n_factors, n_genes, length(spots$order), run$call)
  if (progress) {
    cli::cli_progress_step("Finding factors of {n_genes} genes")
  }
  model <- list(
    coords = input$coords[spots$order, , drop = FALSE],
    order = spots$order,
    sizes = spots$sizes,
    given = given_spots(input),
    genes_of_x = length(input$genes),
    normalization = normalization
  )
  fit <- call_rust(
    rust_find_factors,
    model$coords,
    model$sizes,
    expression$y,
    expression$means,
    as.integer(n_factors %||% 0L),
    as.integer(most),
    as.double(lengthscale %||% numeric()),
    as.integer(max_iterations),
    n_genes,
    lapply(chosen$folds, \(fold) match(intersect(fold, used), used)),
    run$threads,
    call = run$call
  )
  if (isFALSE(fit$supported)) {
    warn_patina(
      c(
        "No factor is supported: left-out spots are predicted no better than by the genes' means.",
        i = "The one factor that is given is most likely noise. Give {.arg n_factors} to have so many all the
          same."
      ),
      class = "no_factors"
    )
  }
  empty <- sum(!is.finite(fit$summary$lengthscale))
  if (empty > 0L && !isFALSE(fit$supported)) {
    inform_patina(
      "{empty} of {ncol(fit$values)} factors {cli::qty(empty)}{?is/are} 0 everywhere: nothing more is smooth."
    )
  }
  new_factors(fit, model, chosen$genes[expression$usable[seq_along(chosen$genes)]], input, run)
}

#' Log-normalised counts, as `prepare()` gives others
#' @noRd
prepare_log <- function(x, coords, assay, from, sample_info, sample_id, covariates, run) {
  input <- as_input(x, coords, assay, sample_info, sample_id, from, run$call, run$progress)
  settings <- list(covariates = covariates %||% ~1, depth = "covariates")
  left <- leave_out_copies(input, settings, run$call)
  input <- left$input
  summary <- summarize_counts(input, run$call)
  check_totals(summary$totals, input$spots, run$call, size_factors = FALSE)
  junk <- report_junk_spots(input$spots, summary$totals, "factors there come from the spots around")
  good <- setdiff(seq_along(summary$totals), junk)
  size <- summary$totals / stats::median(summary$totals[good])
  design <- count_design(input, left$settings, summary$totals, size, run$call)
  regress <- new_regression(design, input$sample_id)
  normalizer <- function(block, genes, threads = 1L) regress(log1p(block / size))
  list(input = input, normalizer = normalizer, run = run, junk = junk)
}

# A sample keeps its spots with few counts if fewer others than this would be left.
least_left <- 5L

#' Spots without those with next to no counts
#' @noRd
without_junk <- function(spots, junk, sample_id) {
  sample <- if (is.null(sample_id)) rep(1L, length(spots$order)) else as.integer(sample_id)[spots$order]
  good <- !spots$order %in% junk
  left <- tabulate(sample[good], length(spots$sizes))
  kept <- good | left[sample] < least_left
  list(order = spots$order[kept], sizes = tabulate(sample[kept], length(spots$sizes)))
}

check_n_factors <- function(n_factors, n_genes, n_spots, call) {
  most <- min(n_genes, n_spots - 1L)
  if (!is.null(n_factors) && n_factors > most) {
    abort_patina(
      c(
        "{.arg n_factors} is {n_factors}: more than the {most} that {n_genes} gene{?s} at {n_spots} spots
          can have.",
        i = "Leave it out to have it chosen."
      ),
      class = "argument",
      call = call
    )
  }
}

# A gene that few spots have is no part of a program.
least_found <- 0.02
most_genes <- 2000L

#' Genes whose neighbouring spots are most alike
#' @param choose Whether each fold of left-out spots is to have its own, taken by the other spots alone.
#' @returns A list of their names, columns `index`, and `folds`, columns for each fold: none if all are alike.
#' @noRd
most_spatial <- function(prepared, spots, choose) {
  input <- prepared$input
  threads <- prepared$run$threads
  call <- prepared$run$call
  coords <- input$coords[spots$order, , drop = FALSE]
  sample <- rep(seq_along(spots$sizes), spots$sizes)
  all <- seq_along(spots$order)
  folds <- if (choose && length(input$genes) > most_genes) {
    call_rust(rust_factor_folds, coords, spots$sizes, call = call)
  }
  # all spots, and those that each fold keeps
  parts <- lapply(c(list(integer()), folds), function(fold) {
    rows <- setdiff(all, fold)
    list(
      rows = rows,
      coords = coords[rows, , drop = FALSE],
      sizes = tabulate(sample[rows], length(spots$sizes))
    )
  })
  score <- matrix(-Inf, length(input$genes), length(parts))
  for (genes in gene_blocks(input)) {
    block <- input_block(input, genes)
    ok <- gene_status(block) == "ok"
    if (!identical(prepared$normalizer, no_normalizer)) {
      ok[ok] <- colMeans(block[, ok, drop = FALSE] != 0) >= least_found
    }
    if (any(ok)) {
      y <- prepared$normalizer(block[, ok, drop = FALSE], genes[ok])
      y <- y[spots$order, , drop = FALSE]
      for (i in seq_along(parts)) {
        part <- parts[[i]]
        own <- if (i == 1L) y else y[part$rows, , drop = FALSE]
        score[genes[ok], i] <- call_rust(rust_morans_i, part$coords, part$sizes, own, threads, call = call)
      }
    }
  }
  usable <- which(is.finite(score[, 1L]))
  if (length(usable) == 0L) {
    abort_patina(
      c(
        "None of the {length(input$genes)} gene{?s} can be used.",
        x = "Each is constant, not finite, or found in less than {100 * least_found} % of the spots.",
        i = "Give {.arg genes} to use some all the same."
      ),
      class = "data",
      call = call
    )
  }
  top <- function(score) {
    score[!is.finite(score)] <- -Inf
    sort(utils::head(usable[order(-score[usable])], most_genes))
  }
  index <- top(score[, 1L])
  folds <- if (length(usable) > most_genes) lapply(seq_along(folds), \(i) top(score[, i + 1L]))
  list(genes = input$genes[index], index = index, folds = folds)
}

#' Put names on what Rust found
#' @noRd
new_factors <- function(fit, model, genes, input, run) {
  ids <- seq_len(ncol(fit$values))
  names <- paste0("factor_", ids)
  kernels <- tibble::as_tibble(fit$summary[c("lengthscale", "delta", "prior")])
  others <- setdiff(seq_len(input$n_spots), model$order)
  whole <- function(of_order, of_others) {
    rbind(of_order, of_others)[order(c(model$order, others)), , drop = FALSE]
  }
  sample <- if (is.null(input$sample_id)) rep(1L, length(others)) else as.integer(input$sample_id)[others]
  around <- function(fields, kernels) {
    if (length(others) > 0L) {
      model <- c(model, fields[c("seen", "sample_means")], list(kernels = kernels))
      predict_fields(model, input$coords[others, , drop = FALSE], sample, run$threads)
    }
  }
  fields <- around(fit, kernels)
  given <- model$given
  at_given <- function(m) `colnames<-`(m[given$row, , drop = FALSE], names)
  values <- at_given(whole(fit$values, fields$value))
  totals <- at_given(whole(fit$totals, fields$value))
  loadings <- matrix(fit$loadings, ncol = length(ids), dimnames = list(genes, names))
  loadings[, !is.finite(kernels$lengthscale)] <- 0
  # what domains are found by
  tissue <- fit$tissue
  elsewhere <- around(tissue, tissue[c("lengthscale", "delta", "prior")])
  elsewhere <- if (!is.null(elsewhere)) elsewhere$value %*% tissue$turn
  model$tissue <- list(values = whole(tissue$values, elsewhere), totals = whole(tissue$totals, elsewhere))
  model$std_errors <- whole(fit$std_errors, fields$se)
  model$seen <- fit$seen
  model$sample_means <- fit$sample_means
  model$kernels <- kernels
  held_out <- if (length(fit$held_out$n_factors) > 0L) tibble::as_tibble(fit$held_out)
  summary <- tibble::as_tibble(fit$summary[c("variance", "lengthscale", "smooth")])
  structure(
    list(
      factors = tibble::as_tibble(
        c(spot_columns(given), as.data.frame(values)),
        .name_repair = "minimal"
      ),
      loadings = loadings,
      summary = tibble::tibble(factor = ids, summary),
      held_out = held_out,
      supported = fit$supported,
      totals = `rownames<-`(totals, given$spots),
      model = model
    ),
    class = "patina_factors"
  )
}
