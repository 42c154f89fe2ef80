// Says which language the words on the pack's pictures and in its reports are to be in.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

const ADDRESS = "/latent-clip/locale", SETTING = "Comfy.Locale", SPOKEN = ["en", "zh"];
let told = "";

app.registerExtension({
  name: "latent-clip.locale",
  setup() {
    tell();
    app.ui.settings.addEventListener?.(`${SETTING}.change`, () => setTimeout(tell));
    for (const event of ["status", "reconnected"]) api.addEventListener(event, tell); // a new id, or a new server
  },
});

function tell(event) {
  const chosen = app.extensionManager?.setting?.get(SETTING) ?? app.ui.settings.getSettingValue(SETTING) ?? "en";
  const language = SPOKEN.includes(chosen) ? chosen : "en", client = api.clientId;
  if (event?.type === "reconnected") told = "";
  if (!client || told === client + language) return;
  told = client + language;
  api.fetchApi(ADDRESS, { method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ client, language }) }).catch(() => { told = ""; });
}
