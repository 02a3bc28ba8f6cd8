"""Sparse autoencoders (SAEs) saved by other libraries, read as sparse coding and an engine.

An SAE explains x by x̂ = Σ_k a_k w_k + b with codes a ≥ 0 that its encoder gives in one pass. What
it is trained for, the error ½‖x − x̂‖² and a price θ Σ_k ‖w_k‖ a_k, is the energy of sparse coding
with the atoms φ_k = w_k/‖w_k‖ of unit norm and the codes ‖w_k‖ a_k.
"""

from typing import TYPE_CHECKING

from itervae.lazy import lazily

if TYPE_CHECKING:
    from itervae.saes.encoder import SAEEncoder
    from itervae.saes.folders import is_sae
    from itervae.saes.loading import LoadedSAE, load_sae
    from itervae.saes.saving import save_sae

__all__ = ["LoadedSAE", "SAEEncoder", "is_sae", "load_sae", "save_sae"]
__getattr__, __dir__ = lazily(__name__)
