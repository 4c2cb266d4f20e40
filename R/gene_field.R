# The field of a gene: where in the tissue its spatial part is high or low, and how sure that is.

#' Where a gene is high and where it is low
#'
#' The posterior of a gene's spatial part f in the model of [spatial_test()], with the lengthscale and the
#' variances that the test found: its mean and standard deviation at the spots or at new places, and a band
#' that holds the whole field with probability `level`. Where the band does not reach 0, the gene is truly
#' above (or below) its mean over the tissue: this holds for all places together, not for each by itself.
#'
#' f counts from its own mean over the spots of its sample. The band is `mean ± c · se` with one c for all
#' places, from 500 draws of the posterior (200 with more than 5,000 spots in a sample), the same on every
#' run. Lengthscale and variances are taken as known.
#'
#' With up to 5,000 spots in a sample its posterior is exact. With more, the mean is so but for rounding,
#' by Fourier transforms, and standard errors are within a few percent (in three dimensions up to a quarter
#' too wide, at lengthscales of three to six spacings and little noise). Fields of lengthscales below one or
#' two spacings, in three dimensions two or three, and those of spots along curves in space, are predicted
#' from the 32 nearest spots, or means over the 32 nearest cells of spots: within 0.05 standard errors, in
#' three dimensions 0.3. Neither the origin nor the unit of `coords` matters.
#'
#' @param object A result of [spatial_test()] for the genes, with the kernel SE.
#' @param x,coords What was tested.
#' @param genes Names of genes, or a table with a column `gene`, such as some rows of `object`; by default
#'   the four with the smallest p-values.
#' @param newcoords Places in the units of `coords`: a data.frame or matrix with a row for each place, or
#'   a vector if there is one coordinate. `NULL` means the spots.
#' @param ... `layer`, `image` and `fov`, as for [spatial_test()].
#' @param new_sample_id If there are several samples: the sample of each new place.
#' @param level Probability that the band holds the whole field of a gene.
#' @param normalization By default that of the test.
#' @param assay,covariates,size_factors,depth,sample_info,sample_id,threads As given to [spatial_test()].
#' @returns A tibble of class `patina_field`, one row for each gene and place: `gene`, `spot` (at the spots
#'   only), `sample` (if there are several), the coordinates; `value`, the gene's residual less its mean over
#'   the sample (at the spots only); `mean` and `se` of the spatial part; `lower` and `upper`, the band; and
#'   `beyond`: `"high"`, `"low"` or `"no"`. The attribute `patina` has the `critical` value of each gene and
#'   the `level`. Values are on the scale of the test: that of Pearson residuals by default.
#' @section Errors:
#' `patina_error_argument` if a gene has no fit or another kernel than SE, or if an argument is out of its
#' range; `patina_error_coords` if `newcoords` has other columns than `coords` or values that are not finite;
#' and those of reading `x`.
#' @seealso [plot_gene_field()]
#' @export
#' @examples
#' tissue <- example_tissue(n_spots = 200, n_genes = 40)
#' coords <- tissue$sample_info[c("x", "y")]
#' results <- spatial_test(tissue$counts, coords, threads = 1)
#' field <- predict(results, tissue$counts, coords, genes = "gene02", threads = 1)
#' field
#' plot_gene_field(field)
#' # on a line through the tissue
#' line <- data.frame(x = seq(2, 12), y = 6)
#' predict(results, tissue$counts, coords, genes = "gene02", newcoords = line, threads = 1)
predict.patina_test <- function(
  object,
  x,
  coords = NULL,
  genes = NULL,
  newcoords = NULL,
  ...,
  new_sample_id = NULL,
  level = 0.95,
  normalization = NULL,
  assay = "counts",
  covariates = NULL,
  size_factors = NULL,
  depth = "auto",
  sample_info = NULL,
  sample_id = NULL,
  threads = NULL
) {
  from <- source_options(...)
  run <- new_run(threads)
  check_number(level, \(x) x > 0 && x < 1, "between 0 and 1")
  check_columns(object, c("gene", "status", "model", "lengthscale", "delta", "fsv", "var_noise"), "object")
  if (missing(x)) {
    abort_patina("{.arg x} is missing: give the expression that was tested.", class = "argument")
  }
  normalization <- normalization %||% attr(object, "patina")$normalization %||% "pearson"
  settings <- new_settings(normalization, covariates, size_factors, depth)
  tested <- fields_of_genes(object, genes %||% top_genes(object, 4)$gene, run$call)
  prepared <- prepare(x, coords, assay, from, sample_info, sample_id, settings, run)
  input <- prepared$input
  check_same_tissue(object, prepared)
  index <- match_genes(tested$gene, input$genes, "genes", run$call)
  if (!identical(input$genes[index], tested$gene)) {
    repeated <- unique(input$genes[index][duplicated(input$genes[index])])
    abort_patina(
      c(
        "{length(repeated)} name{?s} of genes {?is that/are those} of several: {.val {first_few(repeated)}}.",
        i = "Give {.arg object} with the rows of all of them, or make the names of {.arg x} unique before the
          test."
      ),
      class = "names",
      call = run$call
    )
  }
  y <- prepared$normalizer(input_block(input, index, run$call), index, run$threads)

  spots <- sample_order(input)
  given <- given_spots(input)
  at_spots <- is.null(newcoords)
  new_sample_id <- if (!at_spots) new_sample_id
  places <- new_places(newcoords, new_sample_id, input$coords, given, run$call, "new_sample_id")
  back <- if (at_spots) order(spots$order)[given$row] else seq_len(nrow(places$coords))
  # without new places the core takes the spots
  new <- if (at_spots) integer() else back
  critical <- numeric(nrow(tested))
  tables <- lapply(seq_len(nrow(tested)), function(i) {
    values <- y[spots$order, i]
    fit <- call_rust(
      rust_gene_field,
      input$coords[spots$order, , drop = FALSE],
      spots$sizes,
      values,
      tested$lengthscale[[i]],
      tested$delta[[i]],
      tested$var_noise[[i]] / tested$delta[[i]],
      level,
      places$coords[new, , drop = FALSE],
      as.integer(places$sample[new]),
      run$threads,
      call = run$call
    )
    if (!at_spots && length(new) == 0L) {
      fit <- list(mean = numeric(), se = numeric(), critical = NA_real_)
    }
    critical[[i]] <<- fit$critical
    value <- if (at_spots) {
      centred <- values - stats::ave(values, rep(seq_along(spots$sizes), spots$sizes))
      list(value = centred[back])
    }
    half <- fit$critical * fit$se
    beyond <- ifelse(fit$mean - half > 0, "high", ifelse(fit$mean + half < 0, "low", "no"))
    found <- list(
      mean = fit$mean,
      se = fit$se,
      lower = fit$mean - half,
      upper = fit$mean + half,
      beyond = factor(beyond, c("low", "no", "high"))
    )
    tibble::as_tibble(
      c(
        list(gene = rep(tested$gene[[i]], length(back))),
        places$columns,
        value,
        lapply(found, `[`, back)
      ),
      .name_repair = "minimal"
    )
  })
  tibble::new_tibble(
    do.call(rbind, tables),
    class = "patina_field",
    patina = list(
      level = level,
      critical = stats::setNames(critical, tested$gene),
      coords = colnames(input$coords),
      version = utils::packageVersion("patina")
    )
  )
}

#' Check that what is given is what was tested, as far as the test remembers
#' @noRd
check_same_tissue <- function(results, prepared) {
  tested <- attr(results, "patina")
  n <- prepared$input$n_spots
  if (!is.null(tested$n) && tested$n != n) {
    abort_patina(
      c(
        "{.arg x} has {n} spot{?s}, and {tested$n} were tested.",
        i = "Give the expression that {.arg object} is the result of."
      ),
      class = "argument",
      call = prepared$run$call
    )
  }
  now <- list(
    sample_id = max(nlevels(prepared$input$sample_id), 1L),
    covariates = formula_text(prepared$settings$covariates),
    size_factors = attr(prepared$normalizer, "found")$kind,
    depth = prepared$settings$depth
  )
  then <- list(
    sample_id = tested$samples,
    covariates = tested$covariates,
    size_factors = tested$depth$size_factors$kind,
    depth = tested$depth_setting
  )
  other <- Filter(\(name) !is.null(then[[name]]) && !identical(then[[name]], now[[name]]), names(then))
  if (length(other) > 0L) {
    what <- c(
      sample_id = "number of samples",
      covariates = "covariates",
      size_factors = "kind of size factors",
      depth = "depth"
    )
    said <- sprintf("%s: %s, and %s now", what[other], unlist(then[other]), unlist(now[other]))
    abort_patina(
      c(
        "The test was made otherwise than the field.",
        rlang::set_names(said, "x"),
        i = "Give {.arg {other}} as to {.fn spatial_test}."
      ),
      class = "argument",
      call = prepared$run$call
    )
  }
}

#' A formula as a result remembers it
#' @noRd
formula_text <- function(formula) {
  if (is.null(formula)) "none" else paste(trimws(deparse(formula)), collapse = " ")
}

#' The rows of a test that have a field
#' @noRd
fields_of_genes <- function(results, genes, call) {
  if (is.data.frame(genes)) {
    genes <- gene_names(genes, "genes", call)
  }
  index <- match_genes(genes, results$gene, "genes", call)
  rows <- results[index, ]
  bad <- which(!(rows$model %in% "SE") | !is.finite(rows$delta) | !is.finite(rows$var_noise))
  if (length(bad) > 0L) {
    why <- ifelse(is.na(rows$model[bad]), rows$status[bad], paste("kernel", rows$model[bad]))
    why[rows$model[bad] %in% "SE"] <- "no variances"
    abort_patina(
      c(
        "{length(bad)} gene{?s} {?has/have} no field: {first_few(sprintf('%s (%s)', rows$gene[bad], why))}.",
        i = "Fields are of genes that were tested with {.code kernels = \"SE\"}."
      ),
      class = "argument",
      call = call
    )
  }
  rows
}

#' Plot where a gene is high and where it is low
#'
#' A row of panels for each gene: its residuals; the posterior mean of its spatial part; and the same where
#' it is beyond the simultaneous band, grey elsewhere. With one coordinate: residuals, mean and band along
#' it, the parts beyond the band marked.
#'
#' @param field A result of [predict()][predict.patina_test] for genes.
#' @inheritParams plot_genes
#' @return A ggplot object. Its data are a tibble with the columns `gene`, `spot`, `sample` (of several),
#'   `x` and `y` (the coordinates), `panel`, `value` and `shown` (what the colour stands for).
#' @section Errors:
#' `patina_error_argument` if `field` is not a result of `predict()` for genes, or an argument does not make
#' sense.
#' @seealso [predict.patina_test()]
#' @export
#' @examples
#' tissue <- example_tissue(n_spots = 200, n_genes = 40)
#' coords <- tissue$sample_info[c("x", "y")]
#' results <- spatial_test(tissue$counts, coords, threads = 1)
#' field <- predict(results, tissue$counts, coords, genes = c("gene02", "gene04"), threads = 1)
#' plot_gene_field(field)
plot_gene_field <- function(
  field,
  ...,
  trim = 0.01,
  axes = c(1, 2),
  spot_size = NULL,
  unit = NULL
) {
  look <- new_look("free", trim, spot_size, unit, NULL)
  if (!inherits(field, "patina_field") || is.null(attr(field, "patina")$coords)) {
    abort_patina(
      c(
        "{.arg field} must be what {.fn predict} gives for genes, not {.obj_type_friendly {field}}.",
        i = "Use {.code predict(results, x, coords, genes = ...)}, with a result of {.fn spatial_test}."
      ),
      class = "argument"
    )
  }
  if (nrow(field) == 0L) {
    abort_patina("{.arg field} has no rows: there are no places to show.", class = "argument")
  }
  names <- attr(field, "patina")$coords
  check_columns(field, c("gene", names, "mean", "lower", "upper", "beyond"), "field")
  field$sample <- shown_samples(field)
  coords <- as.matrix(as.data.frame(field)[names])
  axes <- shown_axes(coords, axes, rlang::current_env())
  if (length(axes) == 1L) {
    return(field_line_plot(field, coords, ...))
  }
  field$gene <- factor(field$gene, unique(field$gene))
  # panels of several slides are narrow
  gap <- if (is.null(field[["sample"]])) " " else "\n"
  titles <- c(
    value = "Residuals",
    mean = paste0("Spatial", gap, "part"),
    beyond = sprintf("Beyond the%s%s %% band", gap, format(100 * attr(field, "patina")$level))
  )
  titles <- titles[c("value" %in% names(field), TRUE, TRUE)]
  parts <- lapply(names(titles), function(name) {
    source <- if (name == "value") field$value else field$mean
    shown <- stats::ave(source, field$gene, FUN = \(x) symmetric_share(x, look$trim))
    hidden <- name == "beyond" & field$beyond == "no"
    tibble::tibble(
      gene = field$gene,
      spot = field[["spot"]],
      sample = field[["sample"]],
      !!!place_columns(coords[, axes, drop = FALSE]),
      panel = factor(titles[[name]], titles),
      value = replace(source, hidden, NA),
      shown = replace(shown, hidden, NA)
    )
  })
  data <- side_by_side(do.call(rbind, parts))
  one <- field$gene == levels(field$gene)[[1L]]
  tissue <- list(coords = coords[one, , drop = FALSE], sample_id = field[["sample"]][one])
  by_sample <- !is.null(tissue$sample_id)
  rows <- if (by_sample) ggplot2::vars(.data$gene, .data$sample) else ggplot2::vars(.data$gene)
  first <- data$panel == titles[[1L]] & data$gene == levels(data$gene)[[1L]]
  if (by_sample) {
    first <- first & data$sample == levels(data$sample)[[1L]]
  }
  ggplot2::ggplot(data, ggplot2::aes(.data$x, .data$y, colour = .data$shown)) +
    spot_layers(tissue, axes, look, ...) +
    scale_bar(data[first, c("x", "y", "gene", "panel", if (by_sample) "sample")], look$unit) +
    ggplot2::coord_fixed(clip = if (is.null(look$unit)) "on" else "off") +
    ggplot2::facet_grid(rows = rows, cols = ggplot2::vars(.data$panel)) +
    ggplot2::scale_colour_gradient2(
      low = "#2166AC",
      mid = "#F7F7F7",
      high = "#B2182B",
      limits = c(-1, 1),
      breaks = c(-1, 0, 1),
      labels = c("low", "mean", "high"),
      na.value = "grey85"
    ) +
    ggplot2::labs(
      x = colnames(coords)[axes[[1L]]],
      y = colnames(coords)[axes[[2L]]],
      colour = "each row by itself,\nresiduals and\nspatial part"
    ) +
    theme_tissue() +
    ggplot2::theme(strip.text.y = ggplot2::element_text(face = "italic"))
}

#' Values as shares of the largest distance from 0, but for the most extreme ones
#' @noRd
symmetric_share <- function(x, trim) {
  most <- stats::quantile(abs(x), 1 - trim, na.rm = TRUE, names = FALSE)
  if (most > 0) clamp(x / most, c(-1, 1)) else x
}

field_line_plot <- function(field, coords, ...) {
  data <- tibble::as_tibble(as.list(field))
  data$gene <- factor(data$gene, unique(data$gene))
  data$x <- coords[, 1L]
  data <- data[order(data$x), ]
  by_sample <- !is.null(data[["sample"]])
  facets <- if (by_sample) ggplot2::vars(.data$gene, .data$sample) else ggplot2::vars(.data$gene)
  plot <- ggplot2::ggplot(data, ggplot2::aes(.data$x, .data$mean)) +
    ggplot2::geom_ribbon(
      ggplot2::aes(ymin = .data$lower, ymax = .data$upper),
      fill = "grey85"
    )
  if (!is.null(data[["value"]])) {
    plot <- plot + ggplot2::geom_point(ggplot2::aes(y = .data$value), size = 0.8, alpha = 0.5)
  }
  beyond <- data[data$beyond != "no", ]
  plot +
    ggplot2::geom_hline(yintercept = 0, linewidth = 0.3, colour = "grey40") +
    ggplot2::geom_line(colour = "#31688E", ...) +
    ggplot2::geom_point(ggplot2::aes(colour = .data$beyond), data = beyond, size = 1.5) +
    ggplot2::scale_colour_manual(values = c(low = "#2166AC", high = "#B2182B"), name = "beyond the band") +
    ggplot2::facet_wrap(facets, scales = "free_y") +
    ggplot2::labs(x = colnames(coords)[[1L]], y = "residual") +
    theme_patina()
}
