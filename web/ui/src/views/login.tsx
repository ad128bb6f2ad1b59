// SPDX-License-Identifier: Apache-2.0
// Where tokens are used, the token is exchanged once for a session cookie that scripts cannot read.
import { useState } from "preact/hooks";
import { logIn, type Session } from "../api.js";
import { t } from "../lib/i18n.js";
import { Failure, Heading, useAction } from "../lib/ui.js";

export function LogIn({ done }: { done: (who: Session) => void }) {
  const [token, setToken] = useState("");
  const { busy, error, run } = useAction();
  return (
    <main id="main" class="view" tabIndex={-1}>
      <div class="page">
        <Heading>{t("logInTitle")}</Heading>
        <form onSubmit={(e) => (e.preventDefault(), run(async () => done(await logIn(token))))}>
          <label class="field">
            {t("token")}
            <input type="password" autocomplete="current-password" required value={token} onInput={(e) => setToken(e.currentTarget.value)} />
          </label>
          <button class="primary" disabled={busy}>
            {t("logIn")}
          </button>
        </form>
        <Failure error={error} />
      </div>
    </main>
  );
}
